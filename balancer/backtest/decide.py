"""Who decides in a replay: nobody, or the planner by a policy, as the service would run it."""

from __future__ import annotations

from balancer.backtest.replay import Decide, Moment
from balancer.demand import outlook
from balancer.hindsight import Hindsight
from balancer.judged import plan_and_judge
from balancer.model.past import Past
from balancer.policy.policy import Policy


def nothing(_: Moment) -> dict[str, str]:
    """Leave everything where it is."""
    return {}


# Counted work of one plan, a tenth of what the service takes: a month is thousands of plans.
EFFORT = 2e5


def by_policy(policy: Policy, effort: float = EFFORT) -> Decide:
    """Return who decides as an unattended run with this policy does, judge and all."""

    def decide(moment: Moment) -> dict[str, str]:
        behind = behind_of(moment, policy)
        made = plan_and_judge(
            moment.cluster, policy, behind=behind, sha256="replayed", effort=effort
        ).plan
        return {one.vm: one.target for one in made.migrations}  # of two legs the last one counts

    return decide


def behind_of(moment: Moment, policy: Policy) -> Hindsight:
    """Return what the moment's history and moves make of its snapshot."""
    how = policy.history
    if how is None:
        return Hindsight(moment.cluster, Past(moment.now, moment.moves))
    readings = moment.readings(max(how.window_s, how.at_least_s))
    season = moment.seasons(how.season_s) if how.season_s else None
    found = outlook(moment.cluster, policy, readings, season, moment.now.timestamp())
    past = Past(moment.now, moment.moves, found.lasting, found.short_of, how.hold_s)
    return Hindsight(found.cluster, past, found.notes)
