"""One TCP connection to a simulated host: TLS, HTTP, authentication, sealing, and its faults."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from dataclasses import dataclass, field
from http import HTTPStatus

from spnego.exceptions import SpnegoError

from balancer.gateway.simulator.winrm import http1, sealing, wsman
from balancer.gateway.simulator.winrm.accounts import Accounts
from balancer.gateway.simulator.winrm.auth import ConnectionAuth
from balancer.gateway.simulator.winrm.certificates import ServerIdentity
from balancer.gateway.simulator.winrm.faults import Fault, FaultBoard, FaultKind
from balancer.gateway.simulator.winrm.http1 import HttpProblem, HttpRequest
from balancer.gateway.simulator.winrm.service import Service, ServiceReply
from balancer.gateway.simulator.winrm.wsman import WsmanFault

PATH = "/wsman"

_SOAP_TYPE = "application/soap+xml;charset=UTF-8"
_HTML_TYPE = "text/html; charset=us-ascii"
_LINGER_NOT = struct.pack("ii", 1, 0)  # close() then resets: SO_LINGER, on, 0 seconds


class _HangUp(Exception):  # noqa: N818 -- ends a connection, is no error
    """The connection ends here without an answer."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What every connection of one server shares."""

    accounts: Accounts
    service: Service
    board: FaultBoard
    tls: ServerIdentity | None


@dataclass(slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes = b""
    content_type: str = _HTML_TYPE
    headers: list[tuple[str, str]] = field(default_factory=list)
    reply: ServiceReply | None = None


def serve(endpoint: Endpoint, connection: socket.socket) -> None:
    """Serve a connection until either side ends it. Closes the socket.

    Args:
        endpoint: The server.
        connection: Accepted; with TLS, before the handshake.
    """
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not endpoint.board.wait_while_frozen():
            return
        if isinstance(connection, ssl.SSLSocket):
            connection.do_handshake()
        _Connection(endpoint, connection).run()
    except _HangUp as end:
        if end.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    except OSError:  # of TLS, too
        pass  # the client went away, or never wanted our certificate: nothing to tell anybody
    finally:
        connection.close()


class _Connection:
    def __init__(self, endpoint: Endpoint, connection: socket.socket) -> None:
        self._endpoint = endpoint
        self._board = endpoint.board
        self._socket = connection
        tls = endpoint.tls
        self._auth = ConnectionAuth(endpoint.accounts, tls.certificate_der if tls else None)

    def run(self) -> None:
        with self._socket.makefile("rb") as file:
            while True:
                try:
                    request = http1.read_request(file)
                except HttpProblem as problem:
                    self._write(_Answer(problem.status, _page(problem.status)))
                    return
                if request is None:
                    return
                self._wait_while_frozen()
                fault = self._board.strike(None)
                if fault is None:
                    fault, answer = self._answer(request)
                else:
                    answer = self._strike(fault) or self._answer(request)[1]
                self._wait_while_frozen()
                self._send(answer, fault)

    def _wait_while_frozen(self) -> None:
        if not self._board.wait_while_frozen():
            raise _HangUp(reset=False)

    def _answer(self, request: HttpRequest) -> tuple[Fault | None, _Answer]:
        """Carry out a request; also return the fault that struck on the way, if one did."""
        if request.path.partition("?")[0] != PATH or request.method != "POST":
            return None, _Answer(HTTPStatus.NOT_FOUND, _page(HTTPStatus.NOT_FOUND))
        verdict = self._auth.check(request.headers.get("authorization"))
        challenges = [("WWW-Authenticate", challenge) for challenge in verdict.challenges]
        if verdict.user is None:
            return None, _Answer(HTTPStatus.UNAUTHORIZED, headers=challenges)
        if not request.body:  # the client only wanted to prove who it is
            return None, _Answer(HTTPStatus.OK, headers=challenges)
        sealed = sealing.is_sealed(request.headers.get("content-type", ""))
        try:
            message = self._open(request.body, sealed=sealed)
        except PermissionError:
            return None, _Answer(HTTPStatus.FORBIDDEN, _page(HTTPStatus.FORBIDDEN))
        except (ValueError, SpnegoError):
            # Sealed with the key of a connection that is gone, for one: WinRM says no more.
            return None, _Answer(HTTPStatus.BAD_REQUEST, _page(HTTPStatus.BAD_REQUEST))
        fault, answer = self._serve(verdict.user, message)
        answer.headers += challenges
        if sealed and answer.reply is not None:
            answer.body = sealing.seal(self._auth.context, answer.body)
            answer.content_type = sealing.CONTENT_TYPE
        return fault, answer

    def _open(self, body: bytes, *, sealed: bool) -> bytes:
        if sealed:
            if self._auth.context is None:
                raise ValueError("sealed, but nobody agreed on a key")
            return sealing.unseal(self._auth.context, body)
        if self._endpoint.tls is None:
            raise PermissionError("AllowUnencrypted is off, as it is on Windows")
        return body

    def _serve(self, user: str, message: bytes) -> tuple[Fault | None, _Answer]:
        service = self._endpoint.service
        fault = None
        try:
            request = wsman.parse_request(message)
        except WsmanFault as problem:
            reply = service.fault(problem)
        else:
            fault = self._board.strike(request.action)
            if fault is not None and (struck := self._strike(fault)) is not None:
                return fault, struck
            reply = service.handle(user, request)
        status = HTTPStatus.INTERNAL_SERVER_ERROR if reply.is_fault else HTTPStatus.OK
        return fault, _Answer(status, reply.envelope, _SOAP_TYPE, reply=reply)

    def _strike(self, fault: Fault) -> _Answer | None:
        """Do what a fault does before a request is carried out; None: carry it out after all."""
        match fault.kind:
            case FaultKind.SILENT:
                while self._socket.recv(1 << 16):
                    pass  # until the client gives up, or the server stops
                raise _HangUp(reset=False)
            case FaultKind.RESET:
                raise _HangUp(reset=True)
            case FaultKind.GARBAGE:
                return _Answer(HTTPStatus.OK, b"<<< this is no XML >>>", _SOAP_TYPE)
            case FaultKind.SERVER_ERROR:
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                return _Answer(status, b"The service is unavailable & unwell.")
            case FaultKind.UNAUTHORIZED:
                headers = [("WWW-Authenticate", value) for value in self._auth.challenges]
                return _Answer(HTTPStatus.UNAUTHORIZED, headers=headers)
            case FaultKind.DELAY if self._board.wait_until_closed(fault.seconds):
                raise _HangUp(reset=False)
        return None

    def _send(self, answer: _Answer, fault: Fault | None) -> None:
        reply = answer.reply
        ended = None if reply is None else reply.ended
        if ended is not None and self._board.strike_output(ended):
            raise _HangUp(reset=True)
        if self._client_is_gone():  # so that output stays until it asks again
            raise _HangUp(reset=False)
        pause_s = fault.seconds if fault and fault.kind is FaultKind.DRIP else None
        self._write(answer, pause_s)
        if reply is not None:
            reply.acknowledge()

    def _write(self, answer: _Answer, pause_s: float | None = None) -> None:
        data = http1.response(answer.status, answer.body, answer.content_type, answer.headers)
        if pause_s is None:
            self._socket.sendall(data)
            return
        for byte in data:
            if self._client_is_gone() or self._board.wait_until_closed(pause_s):
                raise _HangUp(reset=False)
            self._socket.sendall(bytes((byte,)))

    def _client_is_gone(self) -> bool:
        """Return whether there is something to read: a client that waits only ever hangs up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _page(status: HTTPStatus) -> bytes:
    """As http.sys writes it: HTML that no XML parser takes."""
    return (
        f"<HTML><HEAD><TITLE>{status.phrase}</TITLE>"
        '<META HTTP-EQUIV="Content-Type" Content="text/html; charset=us-ascii"></HEAD>'
        f"<BODY><h2>{status.phrase}</h2><p>HTTP Error {status.value}.</p></BODY></HTML>"
    ).encode("ascii")
