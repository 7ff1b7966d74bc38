"""The settings that may be changed for a run: how each is read and written."""

from __future__ import annotations

from balancer.errors import UnreachableError
from balancer.gateway.port import Gateway, SettingAnswer
from balancer.model.cluster import AutoBalancer, Transport

TRANSPORT = "transport"
AUTO_BALANCER = "built-in balancer"  # of the cluster as a whole


def read(gateway: Gateway, host: str, setting: str) -> str:
    """Return what a setting is now.

    Raises:
        UnreachableError: Nobody tells.
    """
    if setting == TRANSPORT:
        return gateway.read_transport(host).value
    mode = gateway.observe().cluster.settings.auto_balancer
    if mode is None:
        raise UnreachableError("the cluster does not tell the mode of its built-in balancer")
    return mode.value


def write(
    gateway: Gateway, host: str, setting: str, values: tuple[str, str], fence: int
) -> SettingAnswer:
    """Take a setting from the first of `values`, if it still is that, to the second.

    Raises:
        ReplyLostError, UnreachableError, FencedError.
    """
    expected, value = values
    if setting == TRANSPORT:
        return gateway.write_transport(host, Transport(expected), Transport(value), fence)
    return gateway.write_auto_balancer(AutoBalancer(expected), AutoBalancer(value), fence)
