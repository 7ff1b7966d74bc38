"""The production client against the real WinRM endpoint: logging in, and everything that breaks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from balancer.clock import SystemClock
from balancer.errors import InputError, UnreachableError
from balancer.gateway.gather import InParallel
from balancer.gateway.hyperv.connection import Auth, Connection, Secret
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.hyperv.remote import HyperVHost
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator.winrm import (
    Authority,
    CommandFailed,
    Fault,
    FaultKind,
    UnknownCommandError,
    WinRmServer,
)

USER, PASSWORD = "CONTOSO\\balancer", "pa:ss wörd"
EVIL = ["'; Stop-Computer #", '"ü漢[*]`$(x)', ""]


@dataclass
class Module:
    """Answers as the module on a host would, and remembers what it was asked."""

    version: int = 1
    missing: set[str] = field(default_factory=set)
    garbage: str | None = None
    calls: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    slow: bool = False

    def __call__(self, function: str, parameters: Mapping[str, object]) -> str:
        self.calls.append((function, dict(parameters)))
        if function in self.missing:
            raise UnknownCommandError(function)
        if self.slow and function != "Get-LbVersion":
            self.release.wait(20)
        if self.garbage is not None and function != "Get-LbVersion":
            return self.garbage
        match function:
            case "Get-LbVersion":
                answer: dict[str, object] = {"computer": "HV01", "clustered": True}
            case "Get-LbMigration":
                answer = {"computer": "HV01", "moves": []}
            case "Start-LbMigration" | "Stop-LbMigration":
                answer = {"accepted": True}
            case "Set-LbTransport":
                answer = {"result": "written", "value": parameters["Value"]}
            case _:
                raise CommandFailed("Broken,Get-LbHost", 7, 0x80041001, "die Verbindung ist weg")
        return json.dumps({"module": self.version, "unknown key": None} | answer)

    def count(self, function: str) -> int:
        return sum(name == function for name, _ in self.calls)


@pytest.fixture
def module() -> Iterator[Module]:
    made = Module()
    yield made
    made.release.set()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca") / "ca.pem")


@pytest.fixture
def serve(authority: Authority, module: Module) -> Iterator[Callable[..., WinRmServer]]:
    started: list[WinRmServer] = []

    def make(*, tls: bool = True, **options: Any) -> WinRmServer:
        identity = authority.issue(["hv01"], ["127.0.0.1"]) if tls else None
        options.setdefault("kind", "jea")
        server = WinRmServer("HV01", module, {USER: PASSWORD}, tls=identity, **options)
        server.start()
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def reach(authority: Authority) -> Iterator[Callable[..., HyperVHost]]:
    made: list[HyperVHost] = []

    def make(server: WinRmServer, **options: Any) -> HyperVHost:
        host = HyperVHost("HV01", connection(server, authority, **options), SystemClock())
        made.append(host)
        return host

    yield make
    for host in made:
        host.close()


def connection(server: WinRmServer, authority: Authority, **options: Any) -> Connection:
    tls = server.url.startswith("https")
    values: dict[str, Any] = {
        "address": server.address,
        "port": server.port,
        "tls": tls,
        "ca_file": authority.ca_file,
        "auth": Auth.BASIC if tls else Auth.NTLM,
        "username": USER,
        "password": Secret(PASSWORD),
        "configuration_name": server.configuration,
        "connect_timeout_s": 2.0,
        "deadline_s": 4.0,
    }
    return Connection(**(values | options))


def moves(host: HyperVHost) -> None:
    assert host.read_moves(["a"]).moves == []


@pytest.mark.parametrize(
    ("tls", "auth"),
    [(False, "ntlm"), (False, "negotiate"), (True, "ntlm"), (True, "negotiate"), (True, "basic")],
)
def test_every_way_to_log_in(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], auth: str, *, tls: bool
) -> None:
    host = reach(serve(tls=tls), auth=Auth(auth))
    assert host.version().computer == "HV01"
    moves(host)


def test_parameters_arrive_as_they_are(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    host = reach(serve())
    host.read_moves(EVIL)
    host.start(EVIL[0], EVIL[1], clustered=True, fence=2**40)
    host.stop(EVIL[1], 7)
    assert host.set_transport(1, 2, 8).value == 2
    assert [call for call in module.calls if call[0] != "Get-LbVersion"] == [
        ("Get-LbMigration", {"VmId": EVIL}),
        (
            "Start-LbMigration",
            {"VmId": EVIL[0], "Target": EVIL[1], "Clustered": True, "Fence": 2**40},
        ),
        ("Stop-LbMigration", {"VmId": EVIL[1], "Fence": 7}),
        ("Set-LbTransport", {"Expected": 1, "Value": 2, "Fence": 8}),
    ]


def test_a_session_is_kept_and_leaves_nothing_behind(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost]
) -> None:
    server = serve()
    host = reach(server)
    for _ in range(5):
        moves(host)
    assert (server.open_shells, server.open_pipelines) == (1, 0)
    host.close()
    assert server.open_shells == 0


@pytest.mark.parametrize("tls", [True, False])
def test_a_wrong_password_says_so_and_shows_no_password(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], *, tls: bool
) -> None:
    host = reach(serve(tls=tls), password=Secret("wrong s3cret"))
    with pytest.raises(UnreachableError, match="refuses to log in CONTOSO") as failed:
        host.read_host()
    assert failed.value.remedy
    assert "s3cret" not in repr(failed.value) + str(failed.value)


def test_a_secret_shows_itself_to_nobody(
    serve: Callable[..., WinRmServer], authority: Authority
) -> None:
    made = connection(serve(), authority)
    assert PASSWORD not in repr(made) + str(made)
    assert made.password == Secret(PASSWORD)


def test_basic_without_tls_is_never_tried(
    serve: Callable[..., WinRmServer], authority: Authority
) -> None:
    with pytest.raises(InputError, match="in the clear"):
        connection(serve(tls=False), authority, auth=Auth.BASIC)


def test_an_authority_we_do_not_know_is_not_trusted(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other.pem")
    with pytest.raises(UnreachableError, match="cannot be trusted over TLS"):
        reach(serve(), ca_file=other.ca_file).version()
    with pytest.raises(UnreachableError, match="cannot be trusted over TLS"):
        reach(serve(), ca_file=None).version()  # the system's store knows it even less


def test_the_environment_sends_us_through_no_proxy_and_to_no_other_authority(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    moves(reach(serve()))
    moves(reach(serve(tls=False)))


def test_an_ordinary_endpoint_is_sent_the_module_once_a_session(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    texts: list[str] = []

    def accepts(text: str) -> bool:
        texts.append(text)
        return text == module_text()

    host = reach(serve(kind="ordinary", accepts_module=accepts))
    moves(host)
    moves(host)
    assert len(texts) == 1
    assert "HyperVBalancer" in texts[0] or "function" in texts[0]
    assert module.count("Get-LbMigration") == 2


def test_a_jea_endpoint_without_our_functions_says_what_is_missing(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    module.missing = {"Get-LbVersion"}
    with pytest.raises(UnreachableError, match="does not export"):
        reach(serve()).version()


@pytest.mark.parametrize(("version", "understood"), [(0, True), (1, True), (2, True), (3, False)])
def test_versions_one_apart_understand_each_other(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    module: Module,
    version: int,
    *,
    understood: bool,
) -> None:
    module.version = version
    host = reach(serve())
    if understood:
        assert host.version().module == version
    else:
        with pytest.raises(UnreachableError, match="version 3 of the HyperVBalancer module"):
            host.version()
        assert module.count("Get-LbHost") == 0


def test_a_configuration_that_is_not_there(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost]
) -> None:
    with pytest.raises(UnreachableError, match="no session configuration"):
        reach(serve(), configuration_name="Other").version()


def test_a_reading_that_fails_on_the_host_carries_its_text(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost]
) -> None:
    with pytest.raises(ReplyLostError, match="die Verbindung ist weg"):
        reach(serve()).read_host()


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[]", "null", '{"module": "x"}', "{" * 999])
def test_an_answer_that_is_not_ours_is_a_lost_reply(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module, text: str
) -> None:
    module.garbage = text
    host = reach(serve())
    with pytest.raises(ReplyLostError):
        host.start("a", "b", clustered=True, fence=1)
    assert module.count("Start-LbMigration") == 1
    with pytest.raises(ReplyLostError):
        host.read_moves(["a"])


# What each fault does to an act whose Command it hits: the host never acts, or nobody knows.
NOT_CARRIED_OUT = [FaultKind.SILENT, FaultKind.RESET, FaultKind.GARBAGE, FaultKind.SERVER_ERROR]


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("kind", NOT_CARRIED_OUT)
def test_an_act_that_meets_a_fault_is_lost_and_never_sent_again(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    module: Module,
    kind: FaultKind,
    *,
    tls: bool,
) -> None:
    server = serve(tls=tls)
    host = reach(server, deadline_s=2.0)
    host.version()
    server.inject(Fault(kind, action="Command", count=1))
    started = time.monotonic()
    with pytest.raises(ReplyLostError):
        host.start("a", "b", clustered=True, fence=1)
    assert time.monotonic() - started < 5
    server.heal()
    assert module.count("Start-LbMigration") <= 1
    before = module.count("Start-LbMigration")
    moves(host)  # the session has recovered
    assert module.count("Start-LbMigration") == before
    moves(host)
    assert server.open_pipelines == 0


@pytest.mark.parametrize("tls", [True, False])
def test_a_lost_reply_is_lost_once_and_acted_on_once(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    module: Module,
    *,
    tls: bool,
) -> None:
    server = serve(tls=tls)
    host = reach(server)
    host.version()
    server.inject(Fault(FaultKind.LOST_REPLY, function="Start-LbMigration"))
    with pytest.raises(ReplyLostError):
        host.start("a", "b", clustered=True, fence=1)
    server.heal()
    moves(host)
    assert module.count("Start-LbMigration") == 1
    moves(host)
    assert (server.open_shells, server.open_pipelines) == (1, 0)


@pytest.mark.parametrize("tls", [True, False])
def test_a_connection_that_breaks_while_waiting_is_made_again(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    module: Module,
    *,
    tls: bool,
) -> None:
    server = serve(tls=tls)
    host = reach(server)
    host.version()
    server.inject(Fault(FaultKind.LOST_REPLY, function="Start-LbMigration", count=1))
    assert host.start("a", "b", clustered=True, fence=1).accepted
    assert module.count("Start-LbMigration") == 1


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("action", ["Command", "Receive", "Signal"])
@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.GARBAGE, FaultKind.SERVER_ERROR])
def test_a_reading_survives_one_fault(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    action: str,
    kind: FaultKind,
    *,
    tls: bool,
) -> None:
    server = serve(tls=tls)
    host = reach(server)
    host.version()
    server.inject(Fault(kind, action=action, count=1))
    moves(host)
    moves(host)
    assert (server.open_shells, server.open_pipelines) == (1, 0)


@pytest.mark.parametrize("tls", [True, False])
def test_connections_broken_while_idle_are_made_again(
    serve: Callable[..., WinRmServer],
    reach: Callable[..., HyperVHost],
    module: Module,
    *,
    tls: bool,
) -> None:
    server = serve(tls=tls)
    host = reach(server)
    moves(host)
    server.break_connections()
    moves(host)
    assert server.open_shells == 1


def test_a_lost_shell_is_opened_again_for_readings_and_never_for_acts(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    server = serve()
    host = reach(server)
    moves(host)
    server.drop_shells()
    moves(host)
    server.drop_shells()
    with pytest.raises(UnreachableError, match="lost our shell"):
        host.start("a", "b", clustered=True, fence=1)
    assert module.count("Start-LbMigration") == 0
    assert host.start("a", "b", clustered=True, fence=1).accepted


@pytest.mark.parametrize("tls", [True, False])
def test_a_restarted_host_is_reached_again(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], *, tls: bool
) -> None:
    server = serve(tls=tls)
    host = reach(server)
    moves(host)
    server.stop()
    with pytest.raises(UnreachableError):
        host.version()
    server.start()
    moves(host)


@pytest.mark.parametrize("action", ["Create", "Command", "Receive"])
@pytest.mark.parametrize("tls", [True, False])
def test_a_silent_host_costs_its_deadline_and_no_more(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], action: str, *, tls: bool
) -> None:
    server = serve(tls=tls)
    host = reach(server, deadline_s=1.0)
    server.inject(Fault(FaultKind.SILENT, action=action))
    started = time.monotonic()
    with pytest.raises((UnreachableError, ReplyLostError)):
        host.version()
    assert time.monotonic() - started < 5
    server.heal()
    moves(host)


@pytest.mark.parametrize("kind", [FaultKind.FROZEN, FaultKind.REFUSE_CONNECT])
def test_a_host_that_takes_no_connection(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], kind: FaultKind
) -> None:
    server = serve()
    host = reach(server, deadline_s=2.0)
    server.inject(Fault(kind))
    started = time.monotonic()
    with pytest.raises(UnreachableError):
        host.version()
    assert time.monotonic() - started < 6
    server.heal()


def test_refused_credentials_in_mid_session(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost]
) -> None:
    server = serve()
    host = reach(server)
    moves(host)
    server.inject(Fault(FaultKind.UNAUTHORIZED))
    with pytest.raises(UnreachableError, match="refuses to log in"):
        host.version()
    server.heal()
    moves(host)


def test_a_function_that_takes_too_long_is_given_up(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    module.slow = True
    server = serve()
    host = reach(server, deadline_s=2.0)
    host.version()
    started = time.monotonic()
    with pytest.raises(ReplyLostError, match="did not answer within 2 s"):
        host.start("a", "b", clustered=False, fence=1)
    assert time.monotonic() - started < 4
    module.slow = False
    module.release.set()
    moves(host)
    moves(host)
    assert server.open_pipelines == 0


def test_a_dripping_host_is_abandoned_and_not_called_twice(
    serve: Callable[..., WinRmServer], reach: Callable[..., HyperVHost], module: Module
) -> None:
    server = serve()
    host = reach(server, deadline_s=1.0)
    host.version()
    gather = InParallel(4, deadline_s=1.5)
    server.inject(Fault(FaultKind.DRIP, seconds=0.5, action="Command"))
    before = threading.active_count()
    started = time.monotonic()
    outcome = gather({"HV01": host.version})["HV01"]
    assert time.monotonic() - started < 2.5
    assert isinstance(outcome, ReplyLostError)
    again = gather({"HV01": host.version})["HV01"]
    assert isinstance(again, UnreachableError)
    assert "still hangs" in again.message
    assert threading.active_count() <= before + 2
    server.stop()  # ends the drip, and with it the thread


class Ahead(SystemClock):
    """A clock that can be put ahead: time passes where nobody notices."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def test_an_act_does_not_follow_after_everybody_has_given_up_on_it(
    serve: Callable[..., WinRmServer],
    authority: Authority,
    module: Module,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that drips its answer defeats timeouts: the watchdog leaves, the thread comes back."""
    clock = Ahead()
    host = HyperVHost("HV01", connection(serve(), authority), clock)
    host.version()
    clock.ahead_s += 6.0  # so that the channel is tried before the act
    call = host._session.call

    def late(function: str, parameters: Mapping[str, Any], end_s: float) -> str:
        answer = call(function, parameters, end_s)
        clock.ahead_s += 600.0
        return answer

    monkeypatch.setattr(host._session, "call", late)
    with pytest.raises(UnreachableError, match="was not sent"):
        host.start("aaaaaaaa-0000-0000-0000-000000000001", "HV02", clustered=True, fence=1)
    assert module.count("Start-LbMigration") == 0
    host.close()
