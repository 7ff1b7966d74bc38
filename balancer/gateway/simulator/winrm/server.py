"""A simulated Hyper-V host's WinRM server, as a whole."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from balancer.gateway.simulator.winrm.accounts import Accounts
from balancer.gateway.simulator.winrm.certificates import ServerIdentity
from balancer.gateway.simulator.winrm.commands import EndpointKind, Handler, Runspace
from balancer.gateway.simulator.winrm.connection import PATH, Endpoint, serve
from balancer.gateway.simulator.winrm.faults import Fault, FaultBoard, FaultKind
from balancer.gateway.simulator.winrm.listener import Listener
from balancer.gateway.simulator.winrm.service import Service

ORDINARY_CONFIGURATION = "Microsoft.PowerShell"
JEA_CONFIGURATION = "HyperVBalancer"


class WinRmServer:
    """WinRM and PowerShell remoting for one host, on loopback.

    Usable as a context manager. After `stop` it can be started again on the same port, without
    its shells: that is what a restart of the host looks like.
    """

    def __init__(
        self,
        host_name: str,
        handler: Handler,
        users: Mapping[str, str],
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: ServerIdentity | None = None,
        kind: EndpointKind = "ordinary",
        accepts_module: Callable[[str], bool] | None = None,
        configuration: str | None = None,
    ) -> None:
        """Describe a server; nothing listens before `start`.

        Args:
            host_name: Computer name, as faults carry it.
            handler: Answers a function of our module with one JSON string; raises
                `CommandFailed`, or `UnknownCommandError` for a function it does not have.
                Called in threads, several at a time if a pool asks for several runspaces.
            users: Passwords by user name.
            address: In 127.0.0.0/8, or ::1.
            port: 0 picks a free one at the first start.
            tls: Serve HTTPS with this identity; without, HTTP with sealed messages only.
            kind: "ordinary" learns our functions from the module's text, "jea" exports them.
            accepts_module: Whether a script's text is our module; None accepts no script.
            configuration: Name of the session configuration, by default the kind's usual one.

        Raises:
            InputError: A user's name cannot be used.
        """
        self.host_name = host_name
        self.address = address
        self.port = port
        self._accounts = Accounts(users)
        self._tls = tls
        self._board = FaultBoard()
        self._listener: Listener | None = None
        default = ORDINARY_CONFIGURATION if kind == "ordinary" else JEA_CONFIGURATION
        self.configuration = configuration or default
        accepts = accepts_module or (lambda _: False)
        self._service = Service(
            host_name,
            self.configuration,
            lambda: Runspace(handler, kind, accepts),
            self._board.wait_while_frozen,
            lambda: self.url,
        )

    @property
    def url(self) -> str:
        """Where clients find it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'http' if self._tls is None else 'https'}://{host}:{self.port}{PATH}"

    def start(self) -> None:
        """Listen; returns when connections succeed.

        Raises:
            InputError: The address or port cannot be used, or a user is known to another
                server of this process by a different password.
        """
        self._accounts.publish()
        try:
            self._listener = Listener(self.address, self.port, self._board, self._wrap, self._serve)
        except BaseException:
            self._accounts.withdraw()
            raise
        self.port = self._listener.port
        self._board.reopen()
        self._listener.start()

    def stop(self) -> None:
        """Stop listening, break all connections and forget all shells. Twice does no harm."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        # In this order nobody is told more than that the connection is gone.
        listener.interrupt()
        self._service.drop_shells()
        self._board.close()
        listener.stop()
        self._accounts.withdraw()

    def inject(self, fault: Fault) -> None:
        """Let a fault happen from now on, in place of the present one."""
        self._board.set(fault)
        if fault.kind is FaultKind.REFUSE_CONNECT and self._listener is not None:
            self._listener.refuse()

    def heal(self) -> None:
        """End the present fault."""
        self._board.set(None)

    @property
    def fault(self) -> Fault | None:
        """The present fault; None also once it has hit as often as it was to."""
        return self._board.present

    def drop_shells(self) -> None:
        """Lose all shells while connections live on: the WinRM service was restarted."""
        self._service.drop_shells()

    def break_connections(self) -> None:
        """Break all connections while shells live on: the network hiccuped."""
        if self._listener is not None:
            self._listener.break_connections()

    @property
    def open_shells(self) -> int:
        """How many shells are open; a client that leaks shells shows here."""
        return self._service.shell_count()

    @property
    def open_pipelines(self) -> int:
        """How many pipelines no client has closed; a client that leaks them shows here."""
        return self._service.pipeline_count()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wrap(self, raw: socket.socket) -> socket.socket:
        if self._tls is None:
            return raw
        # The handshake waits for the connection's thread: a frozen host does not even begin it.
        return self._tls.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)

    def _serve(self, connection: socket.socket) -> None:
        serve(Endpoint(self._accounts, self._service, self._board, self._tls), connection)
