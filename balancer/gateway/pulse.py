"""A guest's heartbeat: what its integration services tell the host. Pure."""

from __future__ import annotations

from enum import StrEnum


class Heartbeat(StrEnum):
    """How a guest answers its host."""

    OK = "ok"
    CRITICAL = "critical applications"  # it answers, and says that its applications do not
    UNKNOWN = "unknown"
    NO_CONTACT = "no contact"  # none yet, since it started or arrived
    ERROR = "an error"
    LOST = "lost"


# VMHeartbeatStatus. Disabled (1), paused (8) and none at all say nothing about the guest.
_MEANS = {
    0: Heartbeat.UNKNOWN,
    2: Heartbeat.NO_CONTACT,
    3: Heartbeat.ERROR,
    4: Heartbeat.LOST,
    5: Heartbeat.OK,  # whether its applications are well is not told
    6: Heartbeat.OK,
    7: Heartbeat.CRITICAL,
}
_RANK = {Heartbeat.OK: 2, Heartbeat.CRITICAL: 1}


def heartbeat(status: int | None) -> Heartbeat | None:
    """Return what a VMHeartbeatStatus means; None when there is no heartbeat to speak of."""
    return None if status is None else _MEANS.get(status)


def is_worse(now: Heartbeat | None, before: Heartbeat | None) -> bool:
    """Tell whether a guest is less well than before; one that never had a heartbeat is not."""
    if now is None or before is None:
        return False
    return _RANK.get(now, 0) < _RANK.get(before, 0)
