"""One real Hyper-V host: our module's functions, called over PowerShell remoting.

Functions are called by name with parameters only, so nothing that a VM is called can become
code. On an ordinary endpoint the module's text is sent once to each new session; a JEA
endpoint must have it installed. Readings are repeated once over a new channel; acts never.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from balancer.clock import Clock
from balancer.errors import UnreachableError
from balancer.gateway.hyperv.connection import Connection
from balancer.gateway.hyperv.failures import ChannelLostError
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.hyperv.session import CommandError, Parameter, Session
from balancer.gateway.port import ReplyLostError
from balancer.gateway.wire import (
    MODULE_VERSION,
    ActAnswer,
    ClusterAnswer,
    ControlAnswer,
    ControlWriteAnswer,
    HostAnswer,
    MovesAnswer,
    SettingWriteAnswer,
    VersionAnswer,
    Wire,
)

# An act goes only over a channel that has worked a moment ago: a connection that was cut while
# idle would leave us not knowing whether the act was carried out.
PROVEN_S_MAX = 5.0

Answer = TypeVar("Answer", bound=Wire)


class HyperVHost:
    """Implements `HostFunctions` for a real host. For one thread at a time."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        clock: Clock,
        module: Callable[[], str] = module_text,
    ) -> None:
        """Describe the host; nothing is connected before the first call.

        Args:
            name: As configured, or as its cluster calls it.
            connection: How to reach it and log in.
            clock: For deadlines.
            module: Gives the module's source, for endpoints that must be sent it.
        """
        self._name = name
        self._connection = connection
        self._clock = clock
        self._module = module
        self._session = Session(name, connection, clock)
        self._greeted = 0  # the opening of the session that we said hello in

    @property
    def name(self) -> str:
        """The host's name as configured or as its cluster calls it."""
        return self._name

    def version(self) -> VersionAnswer:
        """Say which module answers, on which computer."""
        return self._read("Get-LbVersion", VersionAnswer, {})

    def read_host(self) -> HostAnswer:
        """Read everything the host knows of itself."""
        return self._read("Get-LbHost", HostAnswer, {})

    def read_cluster(self) -> ClusterAnswer:
        """Read everything this node says of its cluster."""
        return self._read("Get-LbCluster", ClusterAnswer, {})

    def read_moves(self, vms: Sequence[str]) -> MovesAnswer:
        """Look at single VMs (ids), cheaply, while they move."""
        return self._read("Get-LbMigration", MovesAnswer, {"VmId": list(vms)})

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> ActAnswer:
        """Start a live migration of the one VM with this id and return once it is accepted."""
        return self._act(
            "Start-LbMigration",
            ActAnswer,
            {"VmId": vm, "Target": target, "Clustered": clustered, "Fence": fence},
        )

    def stop(self, vm: str, fence: int) -> ActAnswer:
        """Cancel a VM's migration; nothing to cancel counts as accepted."""
        return self._act("Stop-LbMigration", ActAnswer, {"VmId": vm, "Fence": fence})

    def set_transport(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        """Write the performance option (TCPIP 0, Compression 1, SMB 2) if it is `expected`."""
        return self._act(
            "Set-LbTransport",
            SettingWriteAnswer,
            {"Expected": expected, "Value": value, "Fence": fence},
        )

    def read_control(self) -> ControlAnswer:
        """Read lease, freeze and fence, as the cluster (or a host that stands alone) keeps them."""
        return self._read("Get-LbControl", ControlAnswer, {})

    def set_control(self, name: str, expected: str, value: str, fence: int) -> ControlWriteAnswer:
        """Write the "lease" or "freeze" text if it is `expected`; a freeze is never fenced."""
        return self._act(
            "Set-LbControl",
            ControlWriteAnswer,
            {"Name": name, "Expected": expected, "Value": value, "Fence": fence},
        )

    def set_node(self, name: str, state: str, fence: int) -> ActAnswer:
        """Let nothing land on a node any more ("pause"), or again ("resume"); moves nothing."""
        return self._act("Set-LbNode", ActAnswer, {"Name": name, "State": state, "Fence": fence})

    def move_group(self, group: str, target: str, fence: int) -> ActAnswer:
        """Move a cluster group (id) that holds no running VM, without waiting for it."""
        return self._act(
            "Move-LbGroup", ActAnswer, {"GroupId": group, "Target": target, "Fence": fence}
        )

    def move_volume(self, name: str, target: str, fence: int) -> ActAnswer:
        """Move the ownership of a cluster shared volume, without waiting for it."""
        return self._act(
            "Move-LbVolume", ActAnswer, {"Name": name, "Target": target, "Fence": fence}
        )

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        """Write the cluster's AutoBalancerMode (0, 1, 2) if it is `expected`."""
        return self._act(
            "Set-LbAutoBalancer",
            SettingWriteAnswer,
            {"Expected": expected, "Value": value, "Fence": fence},
        )

    def close(self) -> None:
        """Let go of the session."""
        self._session.close()

    def _read(
        self,
        function: str,
        model: type[Answer],
        parameters: Mapping[str, Parameter],
        end_s: float | None = None,
    ) -> Answer:
        end_s = self._end_s() if end_s is None else end_s
        try:
            return self._ask(function, model, parameters, end_s)
        except (ChannelLostError, ReplyLostError) as error:
            # A reading may be repeated; after a reply that made no sense, in a new session.
            if isinstance(error, ReplyLostError):
                self._session.drop()
            if self._clock.monotonic_s() >= end_s:
                raise
        return self._ask(function, model, parameters, end_s)

    def _act(
        self, function: str, model: type[Answer], parameters: Mapping[str, Parameter]
    ) -> Answer:
        end_s = self._end_s()
        idle_s = self._session.idle_s
        if idle_s is None or idle_s > PROVEN_S_MAX:
            try:
                self._read("Get-LbVersion", VersionAnswer, {}, end_s)
            except ReplyLostError as error:
                raise UnreachableError(error.message, remedy=error.remedy) from error
            if self._clock.monotonic_s() >= end_s:
                # Whoever asked has given up waiting, and may have concluded that nothing came of
                # it: an act must not follow after that.
                raise UnreachableError(
                    f"{self._name} was so slow to answer that {function} was not sent",
                    remedy="look at the load of the host and at the network between",
                )
        return self._ask(function, model, parameters, end_s)

    def _ask(
        self,
        function: str,
        model: type[Answer],
        parameters: Mapping[str, Parameter],
        end_s: float,
    ) -> Answer:
        self._session.open(end_s)
        if self._greeted != self._session.opened:
            self._greet(end_s)
            self._greeted = self._session.opened
        try:
            text = self._session.call(function, parameters, end_s)
        except CommandError as error:
            raise self._failed(function, error) from error
        return self._parse(function, model, text)

    def _greet(self, end_s: float) -> None:
        """Find our module behind a new session, or put it there.

        Raises:
            UnreachableError: It is not there and cannot be, or is not of our time.
        """
        try:
            text = self._session.call("Get-LbVersion", {}, end_s)
        except CommandError as error:
            if not error.is_("CommandNotFoundException"):
                raise self._failed("Get-LbVersion", error) from error
            self._send_module(end_s)
            text = self._session.call("Get-LbVersion", {}, end_s)
        found = self._parse("Get-LbVersion", VersionAnswer, text).module
        if abs(found - MODULE_VERSION) > 1:
            raise UnreachableError(
                f"{self._name} has version {found} of the HyperVBalancer module; we are version "
                f"{MODULE_VERSION} and understand the ones next to it",
                remedy="install the module of this version on the host",
            )

    def _send_module(self, end_s: float) -> None:
        try:
            self._session.run_script(self._module(), end_s)
        except CommandError as error:
            if error.is_("ScriptsNotAllowed"):
                raise UnreachableError(
                    f"the JEA endpoint {self._connection.configuration_name} on {self._name} does "
                    "not export the functions of the HyperVBalancer module",
                    remedy="install the module there, and name its role capability in the "
                    "endpoint's session configuration",
                ) from error
            raise self._failed("the module's text", error) from error

    def _end_s(self) -> float:
        return self._clock.monotonic_s() + self._connection.deadline_s

    def _failed(self, function: str, error: CommandError) -> UnreachableError | ReplyLostError:
        what = f"{function} failed on {self._name}: {error.message} ({error.fqid})"
        remedy = "bring the HyperVBalancer module on the host to our version"
        if error.is_("CommandNotFoundException"):
            return UnreachableError(what, remedy=remedy)
        return ReplyLostError(what, remedy=remedy)

    def _parse(self, function: str, model: type[Answer], text: str) -> Answer:
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            at = ".".join(str(part) for part in first["loc"])
            raise ReplyLostError(
                f"{self._name} answered {function} with something else than expected: "
                f"{at or 'document'}: {first['msg']}",
                remedy="bring the HyperVBalancer module on the host to our version",
            ) from error
