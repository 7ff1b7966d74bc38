"""Shells: quota, ownership, loss, what survives a broken connection, and the small actions."""

from __future__ import annotations

import base64
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
import requests
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import RunspacePool
from pypsrp.wsman import NAMESPACES, WSManAction

from balancer.errors import InputError
from balancer.gateway.simulator.winrm import Authority, WinRmServer
from tests.unit.winrm.conftest import OTHER_PASSWORD, OTHER_USER, USER, Client, Functions, new_wsman

SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
UNKNOWN_SHELL, QUOTA, UNKNOWN_CONFIGURATION = 2150858843, 2150859173, 2150859194


def test_closing_leaves_nothing_behind(server: WinRmServer, client: Client) -> None:
    client.call("Get-Echo")
    left_open = client.run("Get-Echo")
    assert server.open_pipelines == 1
    left_open.close()
    assert (server.open_shells, server.open_pipelines) == (1, 0)
    client.pool.close()
    assert server.open_shells == 0


def test_the_thirty_first_shell_of_a_user_is_refused(
    server: WinRmServer, connect: Callable[..., Client], authority: Authority
) -> None:
    pools = [connect(server) for _ in range(30)]
    with pytest.raises(WSManFaultError) as refused:
        connect(server)
    assert refused.value.code == QUOTA
    connect(server, username=OTHER_USER, password=OTHER_PASSWORD)  # has a quota of its own
    pools[0].pool.close()
    assert connect(server).call("Get-Echo") == "{}"


def test_another_configuration_is_unknown(server: WinRmServer, authority: Authority) -> None:
    wsman = new_wsman(server, authority.ca_file)
    with pytest.raises(WSManFaultError) as refused:
        RunspacePool(wsman, configuration_name="Microsoft.Exchange").open()
    assert refused.value.code == UNKNOWN_CONFIGURATION
    wsman.close()


def test_a_lost_shell_is_unknown(server: WinRmServer, client: Client) -> None:
    server.drop_shells()
    with pytest.raises(WSManFaultError) as lost:
        client.run("Get-Echo")
    assert lost.value.code == UNKNOWN_SHELL
    assert lost.value.machine == "HV01"
    assert not client.pool.is_alive()


def test_a_shell_lost_in_the_middle_of_a_call_ends_the_wait(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    loss = threading.Timer(0.05, server.drop_shells)
    loss.start()
    with pytest.raises(WSManFaultError) as lost:
        shell.end_invoke()
    assert lost.value.code in (995, UNKNOWN_SHELL)
    loss.join()


def test_a_shell_belongs_to_its_user(
    server: WinRmServer, client: Client, connect: Callable[..., Client]
) -> None:
    thief = connect(server, username=OTHER_USER, password=OTHER_PASSWORD)
    thief.pool.shell._selector_set = client.pool.shell._selector_set
    with pytest.raises(WSManFaultError) as refused:
        thief.run("Get-Echo")
    assert refused.value.code == UNKNOWN_SHELL


def test_a_users_shells_are_one_users_however_the_name_is_spelt(
    server: WinRmServer, client: Client, connect: Callable[..., Client]
) -> None:
    same = connect(server, username=USER.upper(), auth="ntlm")
    same.pool.shell._selector_set = client.pool.shell._selector_set
    same.pool.id = client.pool.id
    assert same.call("Get-Echo") == "{}"


def test_output_waits_while_the_connection_is_broken(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    server.break_connections()
    functions.release.set()
    shell.end_invoke()
    assert shell.output == ["released"]


def test_output_is_kept_for_a_client_that_hung_up_while_waiting(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    client.patience(0.2)
    # No retries: as if the client gave this reading up ...
    with pytest.raises(requests.exceptions.ReadTimeout):
        client.wsman.transport.send(receive_of(client, shell.id))
    functions.release.set()
    # ... and came back later with a new message.
    client.patience(8)
    shell.end_invoke()
    assert shell.output == ["released"]


def test_a_repeated_receive_gets_the_same_answer_again(server: WinRmServer, client: Client) -> None:
    shell = client.begin("Get-Echo")
    message = receive_of(client, shell.id)
    first = client.wsman.transport.send(message)
    again = client.wsman.transport.send(message)
    assert streams(first) == streams(again) != []


def test_disconnecting_and_reconnecting_keeps_the_pool(server: WinRmServer, client: Client) -> None:
    client.pool.disconnect()
    assert client.pool.shell._get_shell()["State"] == "Disconnected"
    client.pool.connect()
    assert client.pool.shell._get_shell()["State"] == "Connected"
    assert client.call("Get-Echo") == "{}"


def test_enumerating_lists_the_users_own_shells(
    server: WinRmServer, client: Client, connect: Callable[..., Client]
) -> None:
    connect(server, username=OTHER_USER, password=OTHER_PASSWORD)
    body = client.wsman.enumerate(SHELL, ET.Element(tag("wsen", "Enumerate")))
    assert [found.text for found in body.iterfind(".//rsp:ShellId", NAMESPACES)] == [client.pool.id]


def test_the_envelope_size_can_be_asked_for(client: Client) -> None:
    client.wsman.update_max_payload_size()
    assert client.wsman.max_envelope_size == 512000


def test_free_runspaces_are_counted(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], functions: Functions
) -> None:
    client = connect(make_server(), max_runspaces=3)
    assert client.pool.get_available_runspaces() == 3
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    assert client.pool.get_available_runspaces() == 2
    functions.release.set()
    shell.end_invoke()
    client.pool.reset_runspace_state()
    assert client.call("Get-Echo") == "{}"


def test_pools_work_side_by_side(server: WinRmServer, connect: Callable[..., Client]) -> None:
    pools = [connect(server, auth="ntlm") for _ in range(2)]
    answers: list[str] = []

    def work(client: Client) -> None:
        answers.append(client.call("Wait-Together"))

    threads = [threading.Thread(target=work, args=(pool,)) for pool in pools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["together", "together"]


def test_a_stopped_server_comes_back_on_its_port_without_its_shells(
    server: WinRmServer, client: Client, connect: Callable[..., Client]
) -> None:
    port = server.port
    server.stop()
    with pytest.raises(requests.exceptions.ConnectionError):
        client.run("Get-Echo")
    server.start()
    assert server.port == port
    with pytest.raises(WSManFaultError) as lost:
        client.run("Get-Echo")
    assert lost.value.code == UNKNOWN_SHELL
    assert connect(server).call("Get-Echo") == "{}"


def test_stopping_ends_a_call_that_waits(
    server: WinRmServer, client: Client, functions: Functions
) -> None:
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    stopping = threading.Timer(0.05, server.stop)
    stopping.start()
    with pytest.raises((requests.exceptions.ConnectionError, WSManFaultError)):
        shell.end_invoke()
    stopping.join()
    assert shell.state == PSInvocationState.RUNNING


@pytest.mark.parametrize(("address", "port"), [("0.0.0.0", 0), ("10.0.0.1", 0), ("localhost", 0)])  # noqa: S104 -- that it is refused
def test_a_server_listens_on_loopback_only(address: str, port: int) -> None:
    with pytest.raises(InputError, match="cannot listen on"):
        WinRmServer("HV01", lambda _f, _p: "", {}, address=address, port=port).start()


def test_a_port_that_is_taken_is_an_error(server: WinRmServer) -> None:
    twin = WinRmServer("HV02", lambda _f, _p: "", {}, port=server.port)
    with pytest.raises(InputError, match=f"127.0.0.1:{server.port}: Address already in use"):
        twin.start()


def test_another_path_is_not_found(server: WinRmServer, authority: Authority) -> None:
    answer = requests.post(
        server.url.replace("/wsman", "/powershell"), verify=str(authority.ca_file), timeout=5
    )
    assert answer.status_code == 404


def tag(prefix: str, name: str) -> str:
    return f"{{{NAMESPACES[prefix]}}}{name}"


def receive_of(client: Client, command_id: str) -> bytes:
    """A Receive request as the client makes it, to be sent as often as a test likes."""
    shell = client.pool.shell
    _, header = client.wsman._create_header(
        WSManAction.RECEIVE, shell.resource_uri, None, shell._selector_set, 5
    )
    envelope = ET.Element(tag("s", "Envelope"))
    envelope.append(header)
    body = ET.SubElement(envelope, tag("s", "Body"))
    receive = ET.SubElement(body, tag("rsp", "Receive"))
    stream = ET.SubElement(receive, tag("rsp", "DesiredStream"), CommandId=command_id)
    stream.text = "stdout"
    message: bytes = ET.tostring(envelope)
    return message


def streams(answer: bytes) -> list[bytes]:
    found = ET.fromstring(answer).iterfind(".//rsp:Stream", NAMESPACES)  # noqa: S314 -- our own
    return [base64.b64decode(stream.text or "") for stream in found]
