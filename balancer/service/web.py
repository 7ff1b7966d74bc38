"""A very small HTTP server for one reader with a machine's patience: the health endpoint.

One thread serves everybody, and nobody can hold it up: sockets never block, each connection has
`PATIENCE_S` from its beginning to its end, a request has `REQUEST_MAX` bytes, and when
`CONNECTIONS_MAX` are open the oldest makes room. So clients that dribble, stall or come in
hundreds cost a bounded amount of memory and no thread, and a probe gets through between them.
It speaks as much of HTTP/1.1 as probes and Prometheus need: GET and HEAD, one request a connection.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from balancer.clock import Clock
from balancer.errors import InputError

PATIENCE_S = 10.0
REQUEST_MAX = 8 * 1024
CONNECTIONS_MAX = 32
TICK_S = 0.5  # how late a connection may be closed, and the server stopped

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page answers."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


@dataclass(slots=True)
class _Connection:
    """One client: what it has said so far, and what it has not been told yet."""

    socket: socket.socket
    ends_s: float
    heard: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class WebServer:
    """Serves pages by their paths from a thread of its own. Pages must be quick."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page], clock: Clock) -> None:
        """Listen; port 0 takes a free one.

        Raises:
            InputError: The address cannot be listened on.
        """
        self._pages = pages
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, _Connection] = {}  # by descriptor, the oldest first
        self._stopping = threading.Event()
        self._listener = _listening(host, port)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Stop at once; whoever is being served is cut off."""
        self._stopping.set()
        self._thread.join()
        for connection in list(self._open.values()):
            self._drop(connection)
        self._listener.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif (connection := self._open.get(key.fd)) is not None:
                    self._go_on(connection)
            now_s = self._clock.monotonic_s()
            for connection in [each for each in self._open.values() if each.ends_s <= now_s]:
                self._drop(connection)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone again, or we have no descriptor left: the next one may fare
            self._stopping.wait(TICK_S / 10)  # better, and the backlog is bounded
            return
        while len(self._open) >= CONNECTIONS_MAX:
            self._drop(next(iter(self._open.values())))
        client.setblocking(False)
        connection = _Connection(client, self._clock.monotonic_s() + PATIENCE_S)
        self._open[client.fileno()] = connection
        self._selector.register(client, selectors.EVENT_READ)

    def _drop(self, connection: _Connection) -> None:
        self._open.pop(connection.socket.fileno(), None)
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _go_on(self, connection: _Connection) -> None:
        """Read what has come, or write what fits; never wait."""
        try:
            if connection.answer is None:
                self._hear(connection)
            else:
                self._tell(connection)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)

    def _hear(self, connection: _Connection) -> None:
        data = connection.socket.recv(REQUEST_MAX)
        connection.heard += data
        if b"\r\n\r\n" in connection.heard:
            connection.answer = memoryview(self._answered(bytes(connection.heard)))
            self._selector.modify(connection.socket, selectors.EVENT_WRITE)
        elif not data or len(connection.heard) > REQUEST_MAX:
            self._drop(connection)

    def _tell(self, connection: _Connection) -> None:
        if connection.answer is not None:
            sent = connection.socket.send(connection.answer)
            connection.answer = connection.answer[sent:]
        if not connection.answer:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
            self._drop(connection)

    def _answered(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 -- see RFC 9112
            return _written(Answer(b"what?\n", 400))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _written(Answer(b"GET only\n", 405))
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            known = ", ".join(sorted(self._pages))
            return _written(Answer(f"there is: {known}\n".encode(), 404))
        try:
            answer = page()
        except Exception as error:  # noqa: BLE001 -- one bad page must not end the server
            answer = Answer(f"{type(error).__name__}\n".encode(), 500)
        return _written(answer, with_body=method == "GET")


def _written(answer: Answer, *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (answer.body if with_body else b"")


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS_MAX)
    except OSError as error:
        raise InputError(
            f"cannot serve health at {host}:{port}: {error.strerror}",
            remedy="name an address of this machine and a port that is free, or leave it out",
        ) from error
    listener.setblocking(False)
    return listener
