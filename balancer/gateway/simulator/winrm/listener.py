"""A loopback port: one accepting thread, one thread a connection."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import threading
from collections.abc import Callable

from balancer.errors import InputError
from balancer.gateway.simulator.winrm.faults import FaultBoard

_BACKLOG = 128
_RETRY_S = 0.05  # when the process is out of file descriptors
_JOIN_S = 5.0


class Listener:
    """Accepts connections and gives each its thread. Safe from any thread."""

    def __init__(
        self,
        address: str,
        port: int,
        board: FaultBoard,
        wrap: Callable[[socket.socket], socket.socket],
        serve: Callable[[socket.socket], None],
    ) -> None:
        """Bind, but do not listen yet.

        Args:
            address: In 127.0.0.0/8, or ::1.
            port: 0 picks a free one.
            board: Tells when the server stops.
            wrap: Puts TLS around an accepted socket, without any traffic yet.
            serve: Serves a connection and closes its socket.

        Raises:
            InputError: The address is not of this machine alone, or the port is taken.
        """
        self._board = board
        self._wrap = wrap
        self._serve = serve
        self._changed = threading.Condition()  # guards what follows
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._refusing = False
        self._stopping = False
        self._socket = _bind(address, port)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept_all, name=f"accept {address}:{self.port}", daemon=True
        )

    def start(self) -> None:
        """Begin to listen; connections succeed from here on."""
        self._socket.listen(_BACKLOG)
        self._thread.start()

    def interrupt(self) -> None:
        """Stop listening and break every connection; `stop` must follow."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._interrupt()
            self._break_connections()

    def stop(self) -> None:
        """Wait for all threads; they end once nobody holds them on the board."""
        self._thread.join(_JOIN_S)
        self._socket.close()
        self.break_connections()
        with self._changed:
            threads = list(self._connections)
        for thread in threads:
            thread.join(_JOIN_S)

    def refuse(self) -> None:
        """Refuse connections until `admit`, and break the present ones; done when this returns."""
        with self._changed:
            self._refusing = True
            self._interrupt()
            self._break_connections()

    def admit(self) -> None:
        """Listen again after `refuse`; connections succeed when this returns."""
        with self._changed:
            if self._refusing and not self._stopping:
                self._socket.listen(_BACKLOG)
            self._refusing = False
            self._changed.notify_all()

    def break_connections(self) -> None:
        """End every open connection; its thread wakes and closes it."""
        with self._changed:
            self._break_connections()

    def _break_connections(self) -> None:
        for connection in self._connections.values():
            _shut_down(connection)

    def _interrupt(self) -> None:
        # Ends listening and wakes accept(), while the port stays ours: no other process can
        # slip in before we listen on it again.
        _shut_down(self._socket)

    def _accept_all(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if not self._recover(error):
                    return
                continue
            thread = threading.Thread(
                target=self._run, args=(connection,), name="connection", daemon=True
            )
            with self._changed:
                if self._refusing:  # it came just before we stopped listening
                    connection.close()
                    continue
                self._connections[thread] = connection
            thread.start()

    def _recover(self, error: OSError) -> bool:
        """Go on after accept() failed; return False when the server stops."""
        if error.errno != errno.EINVAL:
            return not self._board.wait_until_closed(_RETRY_S)
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or not self._refusing)
            return not self._stopping

    def _run(self, raw: socket.socket) -> None:
        me = threading.current_thread()
        try:
            with self._changed:  # TLS takes the socket over: it must not be shut down meanwhile
                connection = self._connections[me] = self._wrap(raw)
            if self._stopping:
                connection.close()
            else:
                self._serve(connection)
        except OSError:
            raw.close()  # gone before TLS began
        finally:
            with self._changed:
                self._connections.pop(me, None)


def _bind(address: str, port: int) -> socket.socket:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise InputError(
            f"a simulated host cannot listen on {address!r}",
            remedy="give an address of this machine alone: 127.0.0.1, 127.0.0.2, ...",
        )
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 -- IPv4
    bound = socket.socket(family, socket.SOCK_STREAM)
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        for each in (probe, bound):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux lets go of a port it picked itself when listening ends, but keeps one that was
        # asked for by number: so let it pick with one socket, and ask with the other.
        probe.bind((address, port))
        bound.bind((address, probe.getsockname()[1]))
    except OSError as error:
        bound.close()
        raise InputError(
            f"a simulated host cannot listen on {address}:{port}: {error.strerror}",
            remedy="stop what listens there, or give another port (0 picks a free one)",
        ) from error
    finally:
        probe.close()
    return bound


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is down already
        # Not SSLSocket.shutdown: that drops the TLS object under the feet of its thread.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
