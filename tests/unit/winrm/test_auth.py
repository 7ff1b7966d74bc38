"""Who gets in, over what, and that nothing readable crosses the wire without TLS."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.powershell import RunspacePool

from balancer.errors import InputError
from balancer.gateway.simulator.winrm import Authority, WinRmServer
from tests.unit.winrm.conftest import (
    OTHER_PASSWORD,
    OTHER_USER,
    PASSWORD,
    USER,
    Client,
    Functions,
    new_wsman,
)


@pytest.mark.parametrize("auth", ["basic", "ntlm", "negotiate"])
def test_every_mode_works_inside_tls(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], auth: str
) -> None:
    if auth == "basic":
        username, password = OTHER_USER, OTHER_PASSWORD
    else:
        username, password = USER, PASSWORD
    client = connect(make_server(), auth=auth, username=username, password=password)
    assert client.call("Get-Echo", A="b") == '{"A": "b"}'


def test_messages_can_be_sealed_inside_tls_as_well(
    server: WinRmServer, connect: Callable[..., Client]
) -> None:
    client = connect(server, auth="ntlm", encryption="always")
    assert client.call("Get-Echo", A="b") == '{"A": "b"}'


def test_basic_takes_colons_umlauts_and_any_case_of_the_name(
    server: WinRmServer, connect: Callable[..., Client]
) -> None:
    assert connect(server, username=USER.upper()).call("Get-Echo") == "{}"


@pytest.mark.parametrize("auth", ["ntlm", "negotiate"])
def test_without_tls_every_message_is_sealed(
    make_server: Callable[..., WinRmServer], authority: Authority, auth: str
) -> None:
    server = make_server(tls=False)
    with Eavesdropper(server.port) as wire:
        wsman = new_wsman(server, authority.ca_file, auth=auth)
        wsman.transport.endpoint = f"http://127.0.0.1:{wire.port}/wsman"
        pool = RunspacePool(wsman, configuration_name=server.configuration)
        pool.open()
        client = Client(wsman, pool)
        assert client.call("Get-Echo", Secret="s3cret") == '{"Secret": "s3cret"}'
        pool.close()
        wsman.close()
    assert b"HTTP-SPNEGO-session-encrypted" in wire.seen
    assert b"Envelope" not in wire.seen.replace(b"MaxEnvelope", b"")


def test_unsealed_messages_are_refused_without_tls(
    make_server: Callable[..., WinRmServer], authority: Authority
) -> None:
    wsman = new_wsman(make_server(tls=False), authority.ca_file, encryption="never")
    with pytest.raises(WinRMTransportError, match="403"):
        wsman.get_server_config()
    wsman.close()


@pytest.mark.parametrize(("auth", "tls"), [("basic", True), ("ntlm", True), ("ntlm", False)])
@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"username": "nobody"}, {"username": "CONTOSO\\nobody"}]
)
def test_a_wrong_name_or_password_is_refused(
    make_server: Callable[..., WinRmServer],
    authority: Authority,
    auth: str,
    tls: bool,  # noqa: FBT001 -- a parameter of the table above
    wrong: dict[str, str],
) -> None:
    wsman = new_wsman(make_server(tls=tls), authority.ca_file, auth=auth, **wrong)
    with pytest.raises(AuthenticationError):
        wsman.get_server_config()
    wsman.close()


def test_basic_is_not_offered_without_tls(make_server: Callable[..., WinRmServer]) -> None:
    server = make_server(tls=False)
    answer = post(server, {"Authorization": basic(OTHER_USER, OTHER_PASSWORD)})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Negotiate"


def test_a_user_of_another_host_is_no_user_here(
    make_server: Callable[..., WinRmServer], authority: Authority
) -> None:
    make_server(users={"elsewhere": "pw"})
    server = make_server()
    wsman = new_wsman(server, authority.ca_file, auth="ntlm", username="elsewhere", password="pw")
    with pytest.raises(AuthenticationError):
        wsman.get_server_config()
    wsman.close()


def test_two_passwords_for_one_user_of_a_process_are_an_error(
    make_server: Callable[..., WinRmServer],
) -> None:
    make_server(users={"lb": "one"})
    with pytest.raises(InputError, match="the user lb by different passwords"):
        make_server(users={"LB": "two"})


@pytest.mark.parametrize("name", ["", "a:b", "a\nb"])
def test_a_name_that_no_user_file_can_hold_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a user"):
        WinRmServer("HV01", lambda _f, _p: "", {name: "x"})


def test_the_user_file_is_private_hashed_and_gone_at_the_end(
    make_server: Callable[..., WinRmServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTLM_USER_FILE", "before")
    server = make_server()
    path = Path(os.environ["NTLM_USER_FILE"])
    assert path.stat().st_mode & 0o077 == 0
    assert "pa:ss" not in path.read_text("utf-8")
    server.stop()
    assert not path.exists()
    assert os.environ["NTLM_USER_FILE"] == "before"


@pytest.mark.parametrize(
    "token",
    [
        "!!",
        "AAAA",
        base64.b64encode(b"NTLMSSP\0\x01").decode(),
        base64.b64encode(b"`\x82").decode(),
    ],
)
@pytest.mark.parametrize("scheme", ["Negotiate", "Basic", "Digest"])
def test_a_broken_token_is_refused_and_the_server_lives(
    make_server: Callable[..., WinRmServer], scheme: str, token: str
) -> None:
    server = make_server(tls=False)
    assert post(server, {"Authorization": f"{scheme} {token}"}).status_code == 401
    assert post(server, {}).status_code == 401


def test_an_unknown_authority_is_not_trusted(server: WinRmServer, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "other.pem")
    wsman = new_wsman(server, stranger.ca_file)
    with pytest.raises(requests.exceptions.SSLError):
        wsman.get_server_config()
    wsman.close()


def test_a_certificate_for_another_address_is_not_accepted(
    make_server: Callable[..., WinRmServer], authority: Authority
) -> None:
    server = make_server(address="127.0.0.2")
    server_elsewhere = WinRmServer(
        "HV02", lambda _f, _p: "", {}, tls=authority.issue(["hv02"], ["127.0.0.9"])
    )
    with server_elsewhere:
        wsman = new_wsman(server_elsewhere, authority.ca_file)
        with pytest.raises(requests.exceptions.SSLError):
            wsman.get_server_config()
        wsman.close()
    assert server.url.startswith("https://127.0.0.2:")


def test_a_host_name_is_a_subject_too(
    server: WinRmServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host in ("hv01", "hv99") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    wsman = new_wsman(server, authority.ca_file, address="hv01", auth="ntlm")
    assert wsman.get_server_config() is not None
    wsman.close()
    wsman = new_wsman(server, authority.ca_file, address="hv99")
    with pytest.raises(requests.exceptions.SSLError):
        wsman.get_server_config()
    wsman.close()


def test_a_proof_without_the_channel_binding_is_refused(
    server: WinRmServer, authority: Authority
) -> None:
    wsman = new_wsman(server, authority.ca_file, auth="ntlm", negotiate_send_cbt=False)
    with pytest.raises(AuthenticationError):
        wsman.get_server_config()
    wsman.close()


def test_a_proof_bound_to_another_certificate_is_refused(
    server: WinRmServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pypsrp.negotiate import HTTPNegotiateAuth  # noqa: PLC0415 -- only this test tampers

    monkeypatch.setattr(
        HTTPNegotiateAuth, "_get_cbt_data", staticmethod(lambda _: b"tls-server-end-point:" + b"x")
    )
    wsman = new_wsman(server, authority.ca_file, auth="ntlm")
    with pytest.raises(AuthenticationError):
        wsman.get_server_config()
    wsman.close()


def test_a_connection_that_is_sealed_does_not_survive_its_tcp_connection(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], functions: Functions
) -> None:
    """WinRM answers 400 to the old key; dropping the session, as the client must, mends it."""
    server = make_server(tls=False)
    client = connect(server)
    server.break_connections()
    with pytest.raises((WinRMTransportError, requests.exceptions.ConnectionError)):
        client.call("Get-Echo")
    assert client.wsman.transport.session is not None
    client.wsman.transport.session.close()
    client.wsman.transport.session = None
    client.wsman.transport.encryption = None
    assert client.call("Get-Echo") == "{}"
    assert functions.calls == [("Get-Echo", {})]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def post(server: WinRmServer, headers: dict[str, str], data: bytes = b"") -> requests.Response:
    return requests.post(server.url, data=data, headers=headers, timeout=5)


class Eavesdropper:
    """A TCP relay that keeps what the client sends."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen = b""
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._start(self._pump, server, client, False)
        self._pump(client, server, True)
        server.close()
        client.close()

    def _pump(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:  # noqa: FBT001
        try:
            while data := source.recv(1 << 16):
                if keep:
                    self.seen += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
