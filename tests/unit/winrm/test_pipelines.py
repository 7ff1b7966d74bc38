"""Functions, parameters, outputs, errors and scripts, as the unmodified client sees them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell

from balancer.gateway.simulator.winrm import WinRmServer, sha256_accepts
from tests.unit.winrm.conftest import MODULE, Client, Functions

AWKWARD = '\'; Stop-Computer # \u00fc\u6f22[*] "q" & <b> _x0041_ a_Xb \U0001f600 \t\r\n \x85 end'


def test_parameters_arrive_as_plain_values(client: Client, functions: Functions) -> None:
    sent = {
        "Text": AWKWARD,
        "Number": 2**31 - 1,
        "Negative": -1,
        "Flag": False,
        "Many": ["a", AWKWARD, ""],
        "Numbers": [1, 2],
        "None": [],
        "Map": {"k": [True, {"deep": 1.5}]},
    }
    assert json.loads(client.call("Get-Echo", **sent)) == sent
    ((_, received),) = functions.calls
    assert received == sent
    assert type(received["Text"]) is str
    assert type(received["Number"]) is int
    assert type(received["Many"]) is list


def test_an_integer_that_the_client_cannot_spell_is_refused(
    client: Client, server: WinRmServer, functions: Functions
) -> None:
    """pypsrp writes every int as a 32-bit one; Windows cannot read a larger one either."""
    with pytest.raises(WSManFaultError):
        client.call("Get-Echo", Number=2**31)
    assert functions.calls == []
    assert server.open_pipelines == 0


def test_a_parameter_without_a_value_is_a_switch(client: Client, functions: Functions) -> None:
    client.call("Get-Echo", Force=None)
    assert functions.calls == [("Get-Echo", {"Force": True})]


def test_a_700_kilobyte_parameter_comes_in_several_messages(client: Client) -> None:
    text = AWKWARD * (700_000 // len(AWKWARD))
    assert json.loads(client.call("Get-Echo", Text=text)) == {"Text": text}


def test_two_megabytes_come_back(client: Client) -> None:
    length = 1 << 20  # of two bytes each
    assert client.call("Get-Big", Length=length) == "&<_x" + "\u00fc" * length


def test_an_error_record_keeps_its_parts(client: Client) -> None:
    shell = client.run("Stop-Badly")
    (record,) = shell.streams.error
    assert shell.state == PSInvocationState.FAILED
    assert shell.output == []
    assert record.fq_error == "GroupIsMoving,Stop-Badly"
    assert record.category == 7
    assert str(record) == "it moves"
    assert record.exception is not None
    hresult = record.exception.adapted_properties["HResult"]
    assert hresult & 0xFFFFFFFF == 0x80071714
    shell.close()
    assert client.call("Get-Echo") == "{}"


def test_a_fault_of_the_handler_reaches_the_client_as_an_error(client: Client) -> None:
    (record,) = client.run("Break-Handler").streams.error
    assert record.fq_error == "SimulatorFault"
    assert "ZeroDivisionError: division by zero" in str(record)


def test_an_unknown_command_looks_as_on_windows(client: Client) -> None:
    (record,) = client.run("Get-Nothing").streams.error
    assert record.fq_error == "CommandNotFoundException"
    assert record.category == 13
    assert record.reason == "CommandNotFoundException"
    assert record.target_name == "Get-Nothing"
    assert record.exception is not None
    assert "System.Management.Automation.CommandNotFoundException" in record.exception.types
    assert str(record).startswith("The term 'Get-Nothing' is not recognized")


def test_a_positional_argument_and_a_longer_pipeline_are_refused(client: Client) -> None:
    positional = PowerShell(client.pool)
    positional.add_cmdlet("Get-Echo").add_argument("x")
    positional.invoke()
    assert positional.streams.error[0].fq_error == "PositionalParameterNotFound,Get-Echo"
    longer = PowerShell(client.pool)
    longer.add_cmdlet("Get-Echo").add_cmdlet("Get-Echo")
    longer.invoke()
    assert longer.streams.error[0].fq_error == "PipelineNotSimulated"


def test_a_jea_endpoint_refuses_scripts_and_runs_functions(
    client: Client, functions: Functions
) -> None:
    (record,) = client.script(MODULE).streams.error
    assert record.fq_error == "ScriptsNotAllowed"
    assert record.category == 17
    assert record.reason == "ParseException"
    assert functions.calls == []
    assert client.call("Get-Echo") == "{}"


def test_an_ordinary_endpoint_learns_the_functions_from_our_module(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client]
) -> None:
    server = make_server(kind="ordinary", accepts_module=lambda text: MODULE in text)
    client = connect(server)
    assert client.run("Get-Echo").streams.error[0].fq_error == "CommandNotFoundException"
    loaded = client.script(f"# a comment\n{MODULE}")
    assert not loaded.had_errors
    assert loaded.output == []
    assert client.call("Get-Echo", A="b") == '{"A": "b"}'
    # The functions are that pool's own.
    another = connect(server)
    assert another.run("Get-Echo").streams.error[0].fq_error == "CommandNotFoundException"


def test_an_ordinary_endpoint_refuses_any_other_script(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], functions: Functions
) -> None:
    digest = "67f2f8a1f6be6b1d9d2d5e6d1d8a1f0d7b6d3f3d8a1f0d7b6d3f3d8a1f0d7b6d"
    client = connect(make_server(kind="ordinary", accepts_module=sha256_accepts(digest)))
    (record,) = client.script("Stop-Computer -Force").streams.error
    assert record.fq_error == "ScriptNotSimulated"
    assert "runs no scripts but" in str(record)
    assert client.run("Get-Echo").streams.error[0].fq_error == "CommandNotFoundException"
    assert functions.calls == []


def test_without_a_module_an_ordinary_endpoint_accepts_no_script(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client]
) -> None:
    client = connect(make_server(kind="ordinary"))
    assert client.script(MODULE).streams.error[0].fq_error == "ScriptNotSimulated"


def test_the_module_can_be_known_by_its_digest() -> None:
    accepts = sha256_accepts("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD")
    assert accepts("abc")
    assert not accepts("abc ")


def test_a_long_command_is_polled_until_it_is_over(client: Client, functions: Functions) -> None:
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    shell.poll_invoke(timeout=1)  # the operation timeout passes: no output, no error
    assert shell.state == PSInvocationState.RUNNING
    functions.release.set()
    shell.end_invoke()
    assert shell.output == ["released"]


def test_a_stopped_pipeline_ends_at_once_and_leaves_the_pool_usable(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client], functions: Functions
) -> None:
    client = connect(make_server(), max_runspaces=2)
    shell = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    shell.stop()
    assert shell.state == PSInvocationState.STOPPED
    assert shell.output == []
    shell.close()
    assert client.call("Get-Echo") == "{}"


def test_a_pipeline_that_waits_for_a_runspace_can_be_stopped_before_it_runs(
    client: Client, functions: Functions
) -> None:
    first = client.begin("Wait-Release")
    assert functions.entered.wait(5)
    second = client.begin("Get-Echo")
    second.stop()
    functions.release.set()
    first.end_invoke()
    assert client.call("Get-Big", Length=0) == "&<_x"
    assert [name for name, _ in functions.calls] == ["Wait-Release", "Get-Big"]


def test_pipelines_of_one_pool_run_at_the_same_time_if_it_has_the_runspaces(
    make_server: Callable[..., WinRmServer], connect: Callable[..., Client]
) -> None:
    client = connect(make_server(), max_runspaces=2)
    pair = [client.begin("Wait-Together"), client.begin("Wait-Together")]
    assert [shell.end_invoke() for shell in pair] == [["together"], ["together"]]
