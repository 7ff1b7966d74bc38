"""Whom the gateway asks, whom it believes, and what it makes of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from balancer.clock import VirtualClock
from balancer.errors import UnreachableError
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.control import Control, ControlName
from balancer.gateway.gather import in_turn
from balancer.gateway.port import (
    FencedError,
    MoveRefusedError,
    MoveRequest,
    ReplyLostError,
    SettingAnswer,
)
from balancer.gateway.quorum import why_not_believed
from balancer.gateway.wire import (
    ActAnswer,
    ClusterAnswer,
    ControlAnswer,
    ControlPart,
    ControlWriteAnswer,
    Fault,
    HostAnswer,
    MoveRow,
    MovesAnswer,
    SettingWriteAnswer,
    VersionAnswer,
)
from balancer.model.cluster import HostState, Transport, VmState
from tests.unit.gateway.answers import (
    NOW,
    cluster,
    cluster_part,
    failed,
    group,
    host,
    host_part,
    node,
    ok,
    vm,
)

T = TypeVar("T")


@dataclass
class Host:
    """A host that answers what it was given, and remembers what it was asked."""

    name: str
    host: HostAnswer | None = None
    cluster: ClusterAnswer | None = None
    rows: dict[str, MoveRow] = field(default_factory=dict)
    act: ActAnswer = field(default_factory=lambda: ActAnswer(module=1, accepted=True))
    setting: SettingWriteAnswer | None = None
    control: ControlPart = field(default_factory=lambda: ControlPart(fence=3, lease="", freeze=""))
    result: str = "written"
    asked: list[str] = field(default_factory=list)

    def version(self) -> VersionAnswer:
        return VersionAnswer(module=1, computer=self.name, clustered=True)

    def read_host(self) -> HostAnswer:
        self.asked.append("host")
        return self._or_silent(self.host)

    def read_cluster(self) -> ClusterAnswer:
        self.asked.append("cluster")
        return self._or_silent(self.cluster)

    def read_moves(self, vms: Sequence[str]) -> MovesAnswer:
        self.asked.append("moves")
        self._or_silent(self.host)
        rows = [self.rows.get(one, moved(one, present=False)) for one in vms]
        return MovesAnswer(module=1, computer=self.name, moves=rows)

    def start(self, vm: str, target: str, *, clustered: bool, fence: int) -> ActAnswer:
        self.asked.append(f"start {vm} {target} {clustered} {fence}")
        return self.act

    def stop(self, vm: str, fence: int) -> ActAnswer:
        self.asked.append(f"stop {vm} {fence}")
        return self.act

    def set_transport(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        return self._or_silent(self.setting)

    def read_control(self) -> ControlAnswer:
        self._or_silent(self.cluster)
        return ControlAnswer(module=1, computer=self.name, control=ok(self.control))

    def set_control(self, name: str, expected: str, value: str, fence: int) -> ControlWriteAnswer:
        self._or_silent(self.cluster)
        self.asked.append(f"control {name} {expected!r} {value!r} {fence}")
        return ControlWriteAnswer(module=1, result=self.result, value=value)

    def set_node(self, name: str, state: str, fence: int) -> ActAnswer:
        self._or_silent(self.cluster)
        self.asked.append(f"{state} {name} {fence}")
        return self.act

    def move_group(self, group: str, target: str, fence: int) -> ActAnswer:
        self.asked.append(f"group {group} {target} {fence}")
        return self.act

    def move_volume(self, name: str, target: str, fence: int) -> ActAnswer:
        self.asked.append(f"volume {name} {target} {fence}")
        return self.act

    def set_auto_balancer(self, expected: int, value: int, fence: int) -> SettingWriteAnswer:
        return self._or_silent(self.setting)

    def close(self) -> None:
        self.asked.append("close")

    def _or_silent(self, answer: T | None) -> T:
        if answer is None:
            raise UnreachableError(f"{self.name} is silent")
        return answer


def moved(identifier: str, **values: Any) -> MoveRow:
    document = {
        "vm": identifier,
        "present": True,
        "state": 2,
        "status": [2],
        "owner": "",
        "group_state": 0,
        "group_status": 0,
        "migration_state": 0,
        "progress": None,
        "failure": 0,
        "failure_text": "",
        "job_state": None,
        "job_percent": None,
        "blackout_s": None,
    }
    return MoveRow.model_validate(document | values)


def view(of: str, states: Sequence[int] = (0, 0, 0), **values: Any) -> ClusterAnswer:
    nodes = [node(f"H{n}", state=state) for n, state in enumerate(states, 1)]
    part = cluster_part(of, **values)
    return cluster(nodes, [group("a", "H1")], cluster=part)


def three() -> dict[str, Host]:
    rows = {"H1": [vm("a")]}
    return {
        name: Host(name, host(name, rows.get(name, [])), view(name)) for name in ("H1", "H2", "H3")
    }


def gateway(hosts: dict[str, Host], *seeds: str, **options: Any) -> ClusterGateway:
    by_key = {name.casefold(): one for name, one in hosts.items()}
    return ClusterGateway(
        "prod",
        seeds or tuple(hosts),
        lambda name: by_key[name.casefold()],
        in_turn,
        VirtualClock(NOW),
        **options,
    )


def up(one: ClusterGateway) -> set[str]:
    seen = one.observe().cluster
    return {host.name for host in seen.hosts if host.state is HostState.UP}


def test_one_seed_finds_all_nodes() -> None:
    hosts = three()
    one = gateway(hosts, "h2")
    assert up(one) == {"H1", "H2", "H3"}
    assert one.observe().cluster.name == "prod"
    assert [found.asked.count("host") for found in hosts.values()] == [2, 2, 2]


def test_hosts_configured_by_address_or_full_name_go_by_their_clusters_names() -> None:
    hosts = three()
    dialled: list[str] = []
    ways = {"10.0.0.1": "H1", "alias.contoso.com": "H2", "h3.contoso.com": "H3"}

    def connect(name: str) -> Host:
        dialled.append(name)
        return hosts[ways[name]]

    one = ClusterGateway("prod", list(ways), connect, in_turn, VirtualClock(NOW))
    for _ in range(2):
        assert up(one) == {"H1", "H2", "H3"}
    assert one.observe().notes == ()
    assert [found.asked.count("host") for found in hosts.values()] == [3, 3, 3]
    hosts["H1"].rows["a"] = moved("a", present=False, owner="H2")
    hosts["H2"].rows["a"] = moved("a", owner="H2")
    assert one.look(["a"])["a"].hosts == ("H2",)
    one.start(MoveRequest("a", "H1", "H2", clustered=True), 1)
    assert sorted(dialled) == sorted(ways)


def test_hosts_that_contradict_each_other_are_read_once_more() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    hosts["H2"].host = host("H2", [vm("a")])
    assert up(one) == {"H1", "H3"}
    assert [found.asked.count("host") for found in hosts.values()] == [3, 3, 2]


def test_the_cluster_is_asked_once_and_of_one_node() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    one.observe()
    assert [found.asked.count("cluster") for found in hosts.values()] == [2, 0, 0]


def test_a_silent_node_is_passed_over_and_unknown() -> None:
    hosts = three()
    hosts["H1"].host = hosts["H1"].cluster = None
    assert up(gateway(hosts)) == {"H2", "H3"}


def test_a_node_that_shows_its_host_and_not_its_cluster_is_passed_over() -> None:
    hosts = three()
    hosts["H1"].cluster = None
    assert up(gateway(hosts)) == {"H1", "H2", "H3"}


@pytest.mark.parametrize(
    "unbelievable",
    [
        view("H1", [0, 1, 1]),
        view("H1", [1, 0, 0]),
        view("H1", [0, -1, 3]),
        view("H9"),
        cluster([node("H1")], cluster=failed()),
        cluster([node("H1")], nodes=failed()),
    ],
    ids=["minority", "down itself", "joining", "not a node", "no cluster", "no nodes"],
)
def test_a_node_without_a_majority_is_never_believed(unbelievable: ClusterAnswer) -> None:
    hosts = three()
    hosts["H1"].cluster = unbelievable
    assert up(gateway(hosts)) == {"H1", "H2", "H3"}
    for one in hosts.values():
        one.cluster = unbelievable
    with pytest.raises(UnreachableError, match="no node can be believed about cluster prod"):
        gateway(hosts).observe()


@pytest.mark.parametrize(
    ("states", "weights", "witness", "believed"),
    [
        ([0, 0], [1, 1], None, True),
        ([0, 1], [1, 1], None, False),
        ([0, 1], [1, 0], None, True),
        ([0, 1], [1, 1], True, True),
        ([0, 1], [1, 1], False, False),
        ([0, 0, 1], [1, 1, 1], False, True),
        ([0, 2, 1], [1, 1, 1], None, True),
        ([0, 1, 1], [1, 1, 1], True, False),
        ([0, 0, 1, 1], [1, 1, 1, 1], True, True),
        ([0, 0, 1, 1], [1, 1, 1, 1], None, False),
        ([0], [0], None, False),
    ],
)
def test_votes(
    states: list[int], weights: list[int], *, witness: bool | None, believed: bool
) -> None:
    nodes = [
        node(f"H{n}", state=state, weight=weight)
        for n, (state, weight) in enumerate(zip(states, weights, strict=True), 1)
    ]
    answer = cluster(nodes, cluster=cluster_part("h1", witness_online=witness))
    assert (why_not_believed(answer) is None) is believed


def test_two_majorities_are_none() -> None:
    hosts = three()
    nodes = [node("H1", weight=3), node("H2", state=1), node("H3", state=1)]
    hosts["H1"].cluster = cluster(nodes)
    hosts["H2"].cluster = view("H2", [1, 0, 0])
    with pytest.raises(UnreachableError, match="H1 and H2 both claim the majority"):
        gateway(hosts).observe()
    hosts["H2"].cluster = hosts["H3"].cluster = cluster([node("H2")], cluster=failed())
    seen = gateway(hosts).observe()
    assert seen.cluster.host_by_name["H2"].state is HostState.DOWN


def test_stand_alone_hosts_have_no_cluster_to_ask() -> None:
    hosts = three()
    assert up(gateway(hosts, clustered=False)) == {"H1", "H2", "H3"}
    assert not any("cluster" in one.asked for one in hosts.values())


def test_a_look_asks_those_concerned_only() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    hosts["H1"].rows["a"] = moved("a", owner="H1")
    assert one.look(["a"])["a"].hosts == ("H1",)
    assert [found.asked.count("moves") for found in hosts.values()] == [1, 0, 0]


def test_a_look_follows_the_owner_and_the_target() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    hosts["H1"].rows["a"] = moved("a", present=False, owner="h3", state=None)
    hosts["H3"].rows["a"] = moved("a", owner="H3", blackout_s=0.4)
    seen = one.look(["a"])["a"]
    assert (seen.hosts, seen.answered, seen.state) == (("H3",), True, VmState.RUNNING)
    assert seen.blackout_s == 0.4
    assert hosts["H2"].asked.count("moves") == 0
    one.start(MoveRequest("a", "H3", "H2", clustered=True), 1)
    one.look(["a"])
    assert hosts["H2"].asked.count("moves") == 1


def test_a_vm_that_is_nowhere_expected_is_looked_for_everywhere() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    hosts["H2"].rows["a"] = moved("a")
    assert one.look(["a"])["a"].hosts == ("H2",)
    assert one.look(["never heard of"])["never heard of"].hosts == ()
    hosts["H3"].host = None
    lost = one.look(["never heard of"])["never heard of"]
    assert (lost.hosts, lost.answered, lost.state) == ((), False, VmState.UNKNOWN)


@pytest.mark.parametrize(
    ("of_dead", "owner", "votes", "answered"),
    [
        ({"state": 1}, "H2", 0, True),
        ({"state": 1}, "H3", 0, False),  # the owner does not show it
        ({"state": 1}, "H1", 0, False),
        ({"state": 1}, "H2", 9, False),  # no majority behind who says so
        ({"state": 1, "status": 1}, "H2", 0, False),  # isolated: its VMs run on
        ({"state": 1, "status": 2}, "H2", 0, False),  # quarantined
        ({"state": 0}, "H2", 0, False),  # silent to us only
        ({"state": 2}, "H2", 0, False),
    ],
)
def test_a_cluster_and_the_owner_speak_for_a_node_that_died(
    of_dead: dict[str, Any], owner: str, votes: int, *, answered: bool
) -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    one.start(MoveRequest("a", "H1", "H2", clustered=True), 1)
    hosts["H1"].host = None
    hosts["H2"].rows["a"] = moved("a", owner=owner)
    nodes = [node("H1", weight=max(1, votes), **of_dead), node("H2"), node("H3")]
    for name in ("H2", "H3"):
        hosts[name].cluster = cluster(nodes, [group("a", owner)], cluster=cluster_part(name))
    seen = one.look(["a"])["a"]
    assert (seen.hosts, seen.answered) == (("H2",), answered)


def test_a_look_that_misses_the_target_says_so() -> None:
    hosts = three()
    one = gateway(hosts)
    one.observe()
    one.start(MoveRequest("a", "H1", "H2", clustered=True), 1)
    hosts["H2"].host = None
    hosts["H1"].rows["a"] = moved("a", status=[2, 32774], job_state=4, job_percent=60)
    seen = one.look(["a"])["a"]
    assert (seen.hosts, seen.answered, seen.moving, seen.percent) == (("H1",), False, True, 60)


@pytest.mark.parametrize(
    ("values", "moving", "queued", "code"),
    [
        ({"group_status": 4}, True, True, None),
        ({"migration_state": 2, "failure": 5}, True, False, None),
        ({"job_state": 3}, True, False, None),
        ({"migration_state": 5, "failure": 0x80072746}, False, False, 0x80072746),
        ({"job_state": 10, "failure": 0x8007000E}, False, False, 0x8007000E),
        ({}, False, False, None),
    ],
)
def test_what_a_look_shows(
    values: dict[str, Any], code: int | None, *, moving: bool, queued: bool
) -> None:
    hosts = three()
    hosts["H1"].rows["a"] = moved("a", owner="H1", **values)
    one = gateway(hosts)
    one.observe()
    seen = one.look(["a"])["a"]
    assert (seen.moving, seen.queued, seen.failure_code) == (moving, queued, code)


def test_acts_go_to_the_source_once() -> None:
    hosts = three()
    one = gateway(hosts)
    one.start(MoveRequest("a", "h1.contoso.com", "H2", clustered=True), 7)
    one.cancel("a", "H1", 8)
    assert hosts["H1"].asked == ["start a H2 True 7", "stop a 8"]


def test_refused_and_fenced_acts() -> None:
    hosts = three()
    one = gateway(hosts)
    fault = Fault(hresult=0x80071398, message="Der Knoten ist kein möglicher Besitzer")
    hosts["H1"].act = ActAnswer(module=1, accepted=False, fault=fault)
    with pytest.raises(MoveRefusedError, match="kein möglicher Besitzer") as refused:
        one.start(MoveRequest("a", "H1", "H2", clustered=True), 7)
    assert refused.value.code == 0x80071398
    hosts["H1"].act = ActAnswer(module=1, accepted=False, fenced=True)
    with pytest.raises(FencedError):
        one.cancel("a", "H1", 7)
    with pytest.raises(UnreachableError, match="no host 'H9'"):
        one.cancel("a", "H9", 7)


@pytest.mark.parametrize("result", ["written", "differs", "busy", "managed"])
def test_what_became_of_a_setting(result: str) -> None:
    hosts = three()
    hosts["H1"].setting = SettingWriteAnswer(module=1, result=result, value=2)
    assert gateway(hosts).write_transport("H1", Transport.TCP, Transport.SMB, 1).value == result


@pytest.mark.parametrize(("result", "error"), [("fenced", FencedError), ("?", ReplyLostError)])
def test_a_setting_not_written(result: str, error: type[Exception]) -> None:
    hosts = three()
    hosts["H1"].setting = SettingWriteAnswer(module=1, result=result, value=2)
    with pytest.raises(error):
        gateway(hosts).write_transport("H1", Transport.TCP, Transport.SMB, 1)


def test_the_node_that_spoke_last_is_asked_first_and_a_silent_one_passed_over() -> None:
    hosts = three()
    hosts["H1"].cluster = view("H1", (1, 0, 0))
    one = gateway(hosts)
    one.observe()
    one.set_node("H3", paused=True, fence=4)
    assert hosts["H2"].asked[-1] == "pause H3 4"
    hosts["H2"].cluster = hosts["H1"].cluster = None
    one.set_node("H3", paused=False, fence=5)
    assert hosts["H3"].asked[-1] == "resume H3 5"


def test_a_lease_that_was_not_written_and_one_that_was_fenced() -> None:
    hosts = three()
    one = gateway(hosts)
    hosts["H1"].result = "differs"
    assert one.write_control(ControlName.LEASE, "mine", "mine too", 4) == "mine too"
    hosts["H1"].result = "fenced"
    with pytest.raises(FencedError):
        one.write_control(ControlName.LEASE, "mine", "mine too", 4)


def test_a_freeze_on_any_host_that_stands_alone_counts() -> None:
    hosts = three()
    hosts["H3"].control = ControlPart(fence=9, lease="theirs", freeze="backup night")
    one = gateway(hosts, clustered=False)
    assert one.read_control() == Control("", "backup night", 9)
    assert not Control(freeze="  ").frozen


def test_the_transport_as_set() -> None:
    hosts = three()
    hosts["H1"].host = host("H1", host=host_part(migration_option=2))
    one = gateway(hosts)
    assert one.read_transport("h1") is Transport.SMB
    hosts["H1"].host = host("H1", host=failed())
    with pytest.raises(UnreachableError, match="does not tell"):
        one.read_transport("H1")


def test_closing_closes_what_was_opened() -> None:
    hosts = three()
    one = gateway(hosts, "H2")
    one.read_transport("H2")
    one.close()
    assert [found.asked for found in hosts.values()] == [[], ["host", "close"], []]


def test_a_snapshot_from_before_a_restart_is_remembered() -> None:
    hosts = three()
    last = gateway(hosts).observe().cluster
    hosts["H1"].host = hosts["H1"].cluster = None
    seen = gateway(hosts, last=last).observe().cluster
    assert seen.vm_by_id["a"].memory_assigned_bytes == last.vm_by_id["a"].memory_assigned_bytes > 0


def test_a_program_that_has_just_started_knows_all_nodes_by_their_own_names() -> None:
    """Recovery looks and writes before anything was observed, and knows only what is configured."""
    hosts = three()
    hosts["H2"].rows["a"] = moved("a", owner="H2")
    hosts["H2"].setting = SettingWriteAnswer(module=1, result="written", value=1)
    hosts["h1.corp.example"] = hosts["H1"]
    hosts["10.0.0.1"] = hosts["H1"]
    for seed in ("H1", "h1.corp.example", "10.0.0.1"):
        sighting = gateway(hosts, seed).look(["a"])["a"]
        assert (sighting.hosts, sighting.answered) == (("H2",), True)
        written = gateway(hosts, seed).write_transport("H2", Transport.SMB, Transport.TCP, 1)
        assert written is SettingAnswer.WRITTEN
    hosts["H2"].rows.clear()
    hosts["H1"].rows["a"] = moved("a", owner="H1")
    assert gateway(hosts, "h1.corp.example").look(["a"])["a"].hosts == ("H1",)
    for one in hosts.values():
        one.host = one.cluster = None
    with pytest.raises(UnreachableError, match="no node can be believed"):
        gateway(hosts, "H1").look(["a"])


def test_the_silence_of_one_host_does_not_lead_to_the_cluster_of_another() -> None:
    hosts = three()
    mine = cluster([node("H9")], [], cluster=cluster_part("H9", name="PROD"))
    hosts["H9"] = Host("H9", host("H9", []), mine)
    for name in ("H1", "H2", "H3"):
        part = cluster_part(name, name="TEST")
        hosts[name].cluster = cluster([node(f"H{n}") for n in (1, 2, 3)], [], cluster=part)
    both = gateway(hosts, "H1", "H9")
    assert up(both) == {"H9"}  # the configured name decides, not who answers first
    hosts["H9"].host = hosts["H9"].cluster = None
    with pytest.raises(UnreachableError, match="its cluster is 'TEST', and H9 is no node of it"):
        both.observe()
    assert up(gateway(hosts, "H1")) == {"H1", "H2", "H3"}  # called otherwise here, but not mixed up


def test_who_spoke_the_last_time_is_asked_beside_the_hosts_and_only_once() -> None:
    hosts = three()
    one = gateway(hosts)
    for _ in range(3):
        assert up(one) == {"H1", "H2", "H3"}
    assert hosts["H1"].asked == ["host", "cluster"] * 3
    assert hosts["H2"].asked == ["host"] * 3


def test_who_spoke_the_last_time_is_doubted_as_anybody_else() -> None:
    hosts = three()
    one = gateway(hosts)
    assert up(one) == {"H1", "H2", "H3"}
    hosts["H1"].cluster = view("H1", (0, 1, 1))
    hosts["H2"].cluster = view("H2", (1, 0, 0))
    hosts["H3"].cluster = view("H3", (1, 0, 0))
    assert up(one) == {"H2", "H3"}
    assert hosts["H1"].asked == ["host", "cluster"] * 2 + ["cluster"]
    hosts["H2"].host = hosts["H2"].cluster = None
    hosts["H1"].cluster = hosts["H3"].cluster = view("H3", (0, 1, 0))
    assert up(one) == {"H1", "H3"}
