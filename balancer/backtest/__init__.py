"""What a policy would have done: recorded days, replayed in seconds."""

from __future__ import annotations

from balancer.backtest.decide import by_policy, nothing
from balancer.backtest.recording import Recording
from balancer.backtest.replay import Decide, Moment, replay
from balancer.backtest.tally import Tally

__all__ = ["Decide", "Moment", "Recording", "Tally", "by_policy", "nothing", "replay"]
