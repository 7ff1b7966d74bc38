"""The WinRM service of one host: which shells there are, and what each WSMan action does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from balancer.gateway.simulator.winrm import wsman
from balancer.gateway.simulator.winrm.commands import Runspace
from balancer.gateway.simulator.winrm.shell import Shell
from balancer.gateway.simulator.winrm.wsman import WsmanFault, WsmanRequest

SHELLS_PER_USER = 30  # MaxShellsPerUser of a Windows host

_TERMINATE = f"{wsman.SHELL}/signal/Terminate"


def _nothing() -> None:
    """Acknowledge a reply that nobody has to know about."""


@dataclass(frozen=True, slots=True)
class ServiceReply:
    """What to answer.

    Attributes:
        envelope: The SOAP message.
        is_fault: It goes with HTTP status 500.
        ended: The function whose last output it carries, "" for a script; else None.
        acknowledge: To be called once it was written.
    """

    envelope: bytes
    is_fault: bool = False
    ended: str | None = None
    acknowledge: Callable[[], None] = _nothing


_Action: TypeAlias = Callable[[str, WsmanRequest], str | ServiceReply]


class Service:
    """The shells of one host. Safe from any thread."""

    def __init__(
        self,
        host_name: str,
        configuration: str,
        new_runspace: Callable[[], Runspace],
        hold: Callable[[], object],
        url: Callable[[], str],
    ) -> None:
        """Start without shells.

        Args:
            host_name: Named in faults.
            configuration: The one session configuration this host offers.
            new_runspace: Makes what a new pool runs its commands in.
            hold: Blocks while the host is frozen.
            url: Where the service is reached now.
        """
        self._host_name = host_name
        self._resource = f"{wsman.POWERSHELL}/{configuration}"
        self._new_runspace = new_runspace
        self._hold = hold
        self._url = url
        self._lock = threading.Lock()
        self._shells: dict[str, Shell] = {}
        self._actions: dict[str, _Action] = {
            "Create": self._create,
            "Command": self._command,
            "Send": self._send,
            "Receive": self._receive,
            "Signal": self._signal,
            "Delete": self._delete,
            "Disconnect": self._disconnect,
            "Reconnect": self._reconnect,
            "Get": self._get,
            "Enumerate": self._enumerate,
        }

    def handle(self, user: str, request: WsmanRequest) -> ServiceReply:
        """Carry out a request; faults come back as replies.

        Args:
            user: Who asks, authenticated.
            request: What.
        """
        try:
            answer = self._actions.get(request.action, _unsupported)(user, request)
        except WsmanFault as fault:
            return self.fault(fault, request.message_id)
        if isinstance(answer, ServiceReply):
            return answer
        return ServiceReply(wsman.reply(request, answer))

    def fault(self, fault: WsmanFault, message_id: str = "") -> ServiceReply:
        """Return the reply that reports a fault."""
        return ServiceReply(wsman.fault(fault.kind, self._host_name, message_id), is_fault=True)

    def drop_shells(self) -> None:
        """Lose every shell, as a restart of the host or of its WinRM service does."""
        with self._lock:
            shells, self._shells = self._shells, {}
        for shell in shells.values():
            shell.close()

    def shell_count(self) -> int:
        """Return how many shells are open."""
        with self._lock:
            return len(self._shells)

    def pipeline_count(self) -> int:
        """Return how many pipelines clients have not closed."""
        with self._lock:
            shells = list(self._shells.values())
        return sum(shell.pipeline_count() for shell in shells)

    def _find(self, user: str, request: WsmanRequest) -> Shell:
        with self._lock:
            shell = self._shells.get(request.shell_id)
        if shell is None or shell.owner != user:
            raise WsmanFault(wsman.UNKNOWN_SHELL)
        return shell

    def _create(self, user: str, request: WsmanRequest) -> str:
        if request.resource != self._resource:
            raise WsmanFault(wsman.UNKNOWN_CONFIGURATION)
        shell_id = request.element("rsp:Shell").get("ShellId", "").upper()
        creation = wsman.decode(request.element("rsp:Shell/p:creationXml"))
        if not shell_id:
            raise WsmanFault(wsman.INVALID_MESSAGE)
        shell = Shell(shell_id, user, self._new_runspace(), self._hold)
        shell.open(creation)
        with self._lock:
            mine = sum(other.owner == user for other in self._shells.values())
            if mine >= SHELLS_PER_USER:
                raise WsmanFault(wsman.TOO_MANY_SHELLS)
            if shell_id in self._shells:
                raise WsmanFault(wsman.INVALID_MESSAGE)
            self._shells[shell_id] = shell
        return wsman.created(self._url(), request.resource, self._describe(shell), shell_id)

    def _command(self, user: str, request: WsmanRequest) -> str:
        shell = self._find(user, request)
        line = request.element("rsp:CommandLine")
        command_id = _required(line.get("CommandId"))
        shell.command(command_id, wsman.decode(request.element("rsp:CommandLine/rsp:Arguments")))
        return (
            f"<rsp:CommandResponse><rsp:CommandId>{str(command_id).upper()}</rsp:CommandId>"
            "</rsp:CommandResponse>"
        )

    def _send(self, user: str, request: WsmanRequest) -> str:
        stream = request.element("rsp:Send/rsp:Stream")
        command_id = wsman.identifier(stream.get("CommandId"))
        self._find(user, request).send(command_id, wsman.decode(stream))
        return "<rsp:SendResponse/>"

    def _receive(self, user: str, request: WsmanRequest) -> ServiceReply:
        stream = request.element("rsp:Receive/rsp:DesiredStream")
        command_id = wsman.identifier(stream.get("CommandId"))
        delivery = self._find(user, request).receive(
            command_id, request.message_id, request.timeout_s, request.budget_bytes
        )
        body = wsman.received(delivery.items, command_id, done=delivery.done)
        return ServiceReply(
            wsman.reply(request, body),
            ended=delivery.function if delivery.done else None,
            acknowledge=delivery.acknowledge,
        )

    def _signal(self, user: str, request: WsmanRequest) -> str:
        shell = self._find(user, request)
        command_id = _required(request.element("rsp:Signal").get("CommandId"))
        if request.element("rsp:Signal/rsp:Code").text == _TERMINATE:
            shell.terminate(command_id)
        else:
            shell.stop(command_id)
        return "<rsp:SignalResponse/>"

    def _delete(self, user: str, request: WsmanRequest) -> str:
        shell = self._find(user, request)
        with self._lock:
            self._shells.pop(shell.id, None)
        shell.close()
        return ""

    def _disconnect(self, user: str, request: WsmanRequest) -> str:
        self._find(user, request).connected = False
        return "<rsp:DisconnectResponse/>"

    def _reconnect(self, user: str, request: WsmanRequest) -> str:
        self._find(user, request).connected = True
        return "<rsp:ReconnectResponse/>"

    def _get(self, user: str, request: WsmanRequest) -> str:
        if request.resource == wsman.SHELL:
            return self._describe(self._find(user, request))
        if request.resource.endswith("/wsman/1/config"):
            return wsman.config()
        raise WsmanFault(wsman.UNKNOWN_CONFIGURATION)

    def _enumerate(self, user: str, request: WsmanRequest) -> str:
        if request.resource != wsman.SHELL:
            raise WsmanFault(wsman.UNSUPPORTED_ACTION)
        with self._lock:
            mine = [shell for shell in self._shells.values() if shell.owner == user]
        return wsman.enumerated("".join(self._describe(shell) for shell in mine))

    def _describe(self, shell: Shell) -> str:
        return wsman.shell_element(shell.id, self._resource, shell.owner, connected=shell.connected)


def _unsupported(_user: str, _request: WsmanRequest) -> str:
    raise WsmanFault(wsman.UNSUPPORTED_ACTION)


def _required(text: str | None) -> UUID:
    command_id = wsman.identifier(text)
    if command_id is None:
        raise WsmanFault(wsman.INVALID_MESSAGE)
    return command_id
