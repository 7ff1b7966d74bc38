"""What `freeze` and `thaw` share: which clusters, and the text in the cluster itself."""

from __future__ import annotations

from balancer.clock import Clock
from balancer.config import ClusterPart, Config
from balancer.connect import connect
from balancer.errors import UnreachableError
from balancer.gateway.control import ControlName
from balancer.gateway.port import ReplyLostError

ATTEMPTS = 3  # somebody else may write at the same moment


def named(config: Config, cluster: str | None, *, everywhere: bool) -> list[ClusterPart]:
    """Return the clusters that are meant."""
    return list(config.document.clusters) if everywhere else [config.cluster(cluster)]


def write_freeze(config: Config, part: ClusterPart, clock: Clock, text: str) -> str:
    """Write the freeze of a cluster into it; return why that was not possible, or nothing."""
    gateway = connect(config, part, clock)
    try:
        for _ in range(ATTEMPTS):
            present = gateway.read_control().freeze
            if (
                present == text
                or gateway.write_control(ControlName.FREEZE, present, text, 0) == text
            ):
                return ""
    except (UnreachableError, ReplyLostError) as error:
        return error.message
    finally:
        gateway.close()
    return "somebody else writes there at the same time"
