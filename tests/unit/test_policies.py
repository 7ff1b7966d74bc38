"""The policies we ship: each loads, does what its comments say, and plans."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from balancer.model.cluster import Cluster, MigrationNetwork, MigrationSettings, Transport
from balancer.model.plan import Plan, Status
from balancer.planner import plan
from balancer.policy.consistency import rule_warnings
from balancer.policy.load import load_policy
from balancer.policy.policy import Goal, Policy
from balancer.policy.rules import KINDS
from tests.notation import cluster

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "policies").glob("*.yaml"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)

OVERLOADED = """
HV01 64G 16c: a 6G 5c, b 6G 5c, c 6G 5c, dc1 4G 0.2c, dc2 4G 0.2c
HV02 64G 16c: d 4G 1c
HV03 64G 16c: e 4G 1c
"""
UNEVEN = """
HV01 64G 16c: a 6G 3c, b 6G 3c, c 6G 3c, d 6G 3c
HV02 64G 16c:
HV03 64G 16c:
"""
RULES_BROKEN = """
HV01 64G 16c: dc1 4G 0.2c, dc2 4G 0.2c, pinned 4G 3c #pinned, a 4G 3c, b 4G 3c, c 4G 3c
HV02 64G 16c:
HV03 64G 16c:
"""


def policy(name: str) -> Policy:
    return load_policy(ROOT / "policies" / f"{name}.yaml")


def planned(text: str | Cluster, name: str) -> Plan:
    seen = cluster(text) if isinstance(text, str) else text
    return plan(seen, policy(name), now=NOW)


def moved(made: Plan) -> set[str]:
    return {migration.name for migration in made.migrations}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_policy_opens_with_what_it_does(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text("utf-8"))
    assert header is not None
    loaded = load_policy(path)
    said = dict(re.findall(r"\((mode|goal): ([a-z-]+)\)", header[0]))
    assert said == {"mode": loaded.mode.value, "goal": loaded.goal.value}
    assert loaded.name.replace(" ", "-") == path.stem
    assert f"{path.stem}.yaml" in (ROOT / "policies" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_policy_plans_an_overloaded_cluster(path: Path) -> None:
    made = planned(OVERLOADED, path.stem)
    relieves = load_policy(path).goal is not Goal.RULES_ONLY
    assert made.status in (Status.OPTIMAL, Status.FEASIBLE)
    assert bool(moved(made) & {"a", "b", "c"}) is relieves
    assert bool(made.unresolved) is not relieves


def test_the_default_says_in_the_open_that_it_writes_settings_and_does_so() -> None:
    text = (ROOT / "policies" / "default.yaml").read_text("utf-8")
    assert re.search(r"^  write_settings: true$", text, re.MULTILINE)
    comment = text.partition("write_settings: true")[0].rpartition("\n\n")[2]
    for what_it_means in ("CHANGE A SETTING OF YOUR HOSTS", "restores", "Network ATC"):
        assert what_it_means in comment
    seen = cluster("HV01 256G 32c: a 100G 10c, b 100G 10c, c 4G 1c\nHV02 256G 32c:")
    slow = MigrationSettings(
        transport=Transport.TCP, networks=(MigrationNetwork("lan", link_bps=1e9),)
    )
    hosts = tuple(dataclasses.replace(host, migration=slow) for host in seen.hosts)
    made = planned(dataclasses.replace(seen, hosts=hosts), "default")
    assert made.settings, "the transport is the balancer's choice"
    assert {migration.transport for migration in made.migrations} == {Transport.COMPRESSION}


def test_only_the_default_writes_settings() -> None:
    assert [p.stem for p in PATHS if load_policy(p).transport.write_settings] == ["default"]


def test_all_but_those_about_rules_keep_room_for_one_host_to_fail() -> None:
    asking = {path.stem for path in PATHS if load_policy(path).reserve.host_failures == 1}
    assert asking == {"default", "conservative", "two-node-branch", "consolidate"}
    assert Policy().reserve.host_failures == 0


def test_a_branch_office_of_which_either_host_may_fail_is_left_alone() -> None:
    """But for one sentence: the domain controllers would share the host that is left."""
    made = planned(
        "HV01 64G 16c: a 8G 1c, dc1 4G 0.2c\nHV02 64G 16c: dc2 4G 0.2c", "two-node-branch"
    )
    assert (made.status, made.unresolved) == (Status.NOTHING_TO_DO, ())
    assert made.survival is not None
    (left,) = made.survival.beyond_help
    assert left.problem.startswith("apart [domain controllers]")
    assert left.problem.endswith("cannot be kept by any placement once any 1 host has failed")


def test_the_default_on_a_single_host_says_one_sentence() -> None:
    made = planned("HV01 64G 16c: a 8G 1c, b 4G 0.2c", "default")
    assert (made.status, made.unresolved) == (Status.NOTHING_TO_DO, ())
    assert made.survival is not None
    assert [one.reason for one in made.survival.beyond_help] == ["12.0 GiB of memory are missing"]


def test_the_default_evens_out_and_the_conservative_does_not() -> None:
    assert planned(UNEVEN, "default").migrations
    assert planned(UNEVEN, "conservative").status is Status.NOTHING_TO_DO


def test_the_conservative_stays_within_its_caps() -> None:
    crowded = "HV01 256G 16c:" + ",".join(f" v{n} 4G 0.5c" for n in range(40))
    made = planned(f"{crowded}\nHV02 256G 16c:\nHV03 256G 16c:\n", "conservative")
    assert 0 < len(made.migrations) <= 4
    assert made.makespan_s <= 30 * 60


def test_rules_only_repairs_rules_and_lets_load_be() -> None:
    made = planned(RULES_BROKEN, "rules-only")
    assert len(moved(made) & {"dc1", "dc2"}) == 1
    assert len(made.migrations) == 1


def test_the_branch_office_moves_one_vm_at_a_time() -> None:
    two = "HV01 64G 16c: a 6G 5c, b 6G 5c, c 6G 5c, my-dc-1 4G 1c, dc2 4G 0.2c\nHV02 64G 16c:\n"
    made = planned(two, "two-node-branch")
    assert len(moved(made) & {"my-dc-1", "dc2"}) == 1
    ends = 0.0
    for migration in sorted(made.migrations, key=lambda migration: migration.start_s):
        assert migration.start_s >= ends - 1e-6
        ends = migration.start_s + migration.duration_s


def test_the_examples_show_every_kind_of_rule_and_explain_it() -> None:
    text = (ROOT / "policies" / "example-rules.yaml").read_text("utf-8")
    examples = policy("example-rules")
    assert {rule.kind for rule in examples.rules} == set(KINDS)
    for kind in KINDS:
        assert re.search(rf"^  # {kind}\b.*[:,]", text, re.MULTILINE), kind
    assert all(rule.name for rule in examples.rules)


def test_the_examples_bind_what_they_seem_to() -> None:
    seen = cluster(
        """
        HV01 64G 16c @Site=A: sql-1, sql-2, w1 #web, w2 #web, w3 #web, dongle #dongle
        HV02 64G 16c @Site=A: shop-app, erp-1, box #sap, fs-2, fast #latency, balancer
        HV03 64G 16c @Site=B: shop-db, backup-proxy, erp-2, drive #backup, fs-1, pay #payroll
        """
    )
    absent = ("Oracle", "priority")  # nothing here is, or is of, these
    warned = rule_warnings(seen, policy("example-rules"))
    assert [text for text in warned if not any(word in text for word in absent)] == []
    made = planned(seen, "example-rules")
    at = {vm.name: vm.host for vm in seen.vms}
    at |= {migration.name: migration.target for migration in made.migrations}
    assert at["sql-1"] != at["sql-2"]
    assert at["shop-app"] == at["shop-db"]
    assert at["backup-proxy"] == "HV01"
    assert at["dongle"] == "HV01"
    assert at["drive"] == "HV01"
    assert at["box"] != "HV03"
    assert at["fs-1"] == at["fs-2"]
    assert at["fast"] == at["balancer"] == "HV02"
    assert (at["erp-1"] == "HV03") == (at["erp-2"] == "HV03")
    assert "HV03" in {at[web] for web in ("w1", "w2", "w3")}
    assert max(sum(at[web] == host for web in ("w1", "w2", "w3")) for host in at.values()) <= 2


def test_the_conservative_moves_what_suffers_from_it_last() -> None:
    hot = "HV01 64G 16c: fast 6G 7c #latency, a 6G 5c, b 6G 4c\nHV02 64G 16c:\n"
    assert moved(planned(hot, "conservative")) & {"a", "b"}
    assert "fast" not in moved(planned(hot, "conservative"))
