"""Every fault a simulated host can be given, as the unmodified client feels it."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from pypsrp.powershell import RunspacePool
from pypsrp.wsman import WSMan

from balancer.gateway.simulator.winrm import Authority, Fault, FaultKind, WinRmServer
from balancer.gateway.simulator.winrm.faults import FaultBoard
from tests.unit.winrm.conftest import Client, Functions, new_wsman


@pytest.fixture
def wsman(server: WinRmServer, authority: Authority) -> WSMan:
    """A client with little patience; its pool is not opened."""
    return new_wsman(server, authority.ca_file, read_timeout=0.7, connection_timeout=0.7)


def config(wsman: WSMan) -> None:
    try:
        wsman.get_server_config()
    finally:
        wsman.close()


def test_silent_never_answers_and_never_acts(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    client.patience(0.3)
    server.inject(Fault(FaultKind.SILENT, action="Command"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.run("Get-Echo")
    server.heal()
    client.patience(8)
    assert client.call("Get-Echo") == "{}"
    assert len(functions.calls) == 1


def test_a_silent_receive_is_tried_again_by_the_client_and_loses_nothing(
    server: WinRmServer, client: Client
) -> None:
    client.patience(0.5)
    server.inject(Fault(FaultKind.SILENT, action="Receive", count=2))
    assert client.call("Get-Echo", A="b") == '{"A": "b"}'


def test_drip_outlasts_the_read_timeout(server: WinRmServer, wsman: WSMan) -> None:
    server.inject(Fault(FaultKind.DRIP, seconds=0.001))
    started = time.monotonic()
    config(wsman)  # each byte resets the client's timer, and all of it arrives in the end
    assert time.monotonic() - started > 0.7


def test_drip_ends_when_the_client_hangs_up(server: WinRmServer, authority: Authority) -> None:
    server.inject(Fault(FaultKind.DRIP, seconds=0.2))
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(server.url, timeout=(5, 0.05), verify=str(authority.ca_file))
    connections = [thread for thread in threading.enumerate() if thread.name == "connection"]
    for thread in connections:
        thread.join(5)
    assert not any(thread.is_alive() for thread in connections)


@pytest.mark.parametrize("action", [None, "Command"])
def test_reset_breaks_the_connection_before_anything_is_done(
    server: WinRmServer, client: Client, functions: Functions, action: str | None
) -> None:
    server.inject(Fault(FaultKind.RESET, action=action, count=1))
    with pytest.raises(requests.exceptions.ConnectionError):
        client.run("Get-Echo")
    assert functions.calls == []
    assert client.call("Get-Echo") == "{}"


def test_garbage_is_no_xml(server: WinRmServer, wsman: WSMan) -> None:
    server.inject(Fault(FaultKind.GARBAGE))
    with pytest.raises(ET.ParseError):
        config(wsman)


def test_server_error_is_http_500_without_a_wsman_fault(server: WinRmServer, wsman: WSMan) -> None:
    server.inject(Fault(FaultKind.SERVER_ERROR))
    with pytest.raises(WinRMTransportError) as failed:
        config(wsman)
    assert failed.value.code == 500


@pytest.mark.parametrize("auth", ["basic", "ntlm"])
def test_unauthorized_refuses_good_credentials(
    server: WinRmServer, authority: Authority, auth: str
) -> None:
    server.inject(Fault(FaultKind.UNAUTHORIZED))
    wsman = new_wsman(server, authority.ca_file, auth=auth)
    with pytest.raises(AuthenticationError):
        config(wsman)
    server.heal()
    config(new_wsman(server, authority.ca_file, auth=auth))


def test_refuse_connect_resets_and_refuses_until_healed(
    server: WinRmServer, client: Client
) -> None:
    for _ in range(2):
        server.inject(Fault(FaultKind.REFUSE_CONNECT))
        with pytest.raises(requests.exceptions.ConnectionError):
            client.run("Get-Echo")
        with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
            client.run("Get-Echo")
        server.heal()
        assert client.call("Get-Echo") == "{}"


def test_a_refusing_server_can_be_stopped(server: WinRmServer, authority: Authority) -> None:
    server.inject(Fault(FaultKind.REFUSE_CONNECT))
    server.stop()
    server.start()
    config(new_wsman(server, authority.ca_file))


def test_delay_is_late_but_right(server: WinRmServer, client: Client) -> None:
    server.inject(Fault(FaultKind.DELAY, seconds=0.3, action="Command", count=1))
    started = time.monotonic()
    assert client.call("Get-Echo") == "{}"
    assert time.monotonic() - started >= 0.3


def test_a_lost_reply_comes_after_the_deed(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    server.inject(Fault(FaultKind.LOST_REPLY))
    with pytest.raises(requests.exceptions.ConnectionError):
        client.run("Get-Echo", A="b")
    assert functions.calls == [("Get-Echo", {"A": "b"})]
    server.heal()
    assert client.call("Get-Echo") == "{}"


def test_only_the_reply_of_one_function_is_lost(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    server.inject(Fault(FaultKind.LOST_REPLY, function="Get-Big"))
    assert client.call("Get-Echo") == "{}"
    with pytest.raises(requests.exceptions.ConnectionError):
        client.run("Get-Big", Length=1)
    assert [name for name, _ in functions.calls] == ["Get-Echo", "Get-Big"]


def test_output_of_a_lost_reply_is_there_for_who_asks_again(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    server.inject(Fault(FaultKind.LOST_REPLY, count=1))
    shell = client.begin("Get-Echo", A="b")
    with pytest.raises(requests.exceptions.ConnectionError):
        shell.end_invoke()
    shell.end_invoke()
    assert shell.output == ['{"A": "b"}']
    assert len(functions.calls) == 1


def test_a_frozen_host_stands_still_and_goes_on_when_it_thaws(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    server.inject(Fault(FaultKind.FROZEN))
    answers: list[str] = []
    call = threading.Thread(target=lambda: answers.append(client.call("Get-Echo")))
    call.start()
    call.join(0.3)
    assert call.is_alive()
    assert functions.calls == []
    server.heal()
    call.join(5)
    assert answers == ["{}"]


def test_a_frozen_host_does_not_even_begin_a_handshake(server: WinRmServer, wsman: WSMan) -> None:
    server.inject(Fault(FaultKind.FROZEN))
    with pytest.raises(requests.exceptions.Timeout):
        config(wsman)


def test_a_frozen_host_can_be_stopped(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    server.inject(Fault(FaultKind.FROZEN))
    failed: list[BaseException] = []

    def call() -> None:
        try:
            client.run("Get-Echo")
        except requests.exceptions.ConnectionError as error:
            failed.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    caller.join(0.1)
    server.stop()
    caller.join(5)
    assert len(failed) == 1
    assert functions.calls == []


def test_faults_inside_sealed_messages(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], functions: Functions
) -> None:
    server = make_server(tls=False)
    client = connect(server)
    server.inject(Fault(FaultKind.SERVER_ERROR, action="Command", count=1))
    with pytest.raises(WinRMTransportError):
        client.run("Get-Echo")
    assert client.call("Get-Echo") == "{}"
    assert len(functions.calls) == 1


def test_a_fault_that_is_counted_ends_by_itself() -> None:
    board = FaultBoard()
    board.set(Fault(FaultKind.RESET, action="Create", count=2))
    struck = [board.strike(action) is not None for action in ("Get", "Create", "Create", "Create")]
    assert struck == [False, True, True, False]


def test_opening_against_a_fault_leaves_no_shell(server: WinRmServer, authority: Authority) -> None:
    server.inject(Fault(FaultKind.RESET, action="Create"))
    wsman = new_wsman(server, authority.ca_file)
    with pytest.raises(requests.exceptions.ConnectionError):
        RunspacePool(wsman, configuration_name=server.configuration).open()
    wsman.close()
    assert server.open_shells == 0
