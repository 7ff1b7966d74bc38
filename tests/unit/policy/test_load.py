"""Policies from YAML: what every key becomes, and what is refused with which advice."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest

from balancer.errors import InputError, InputErrorGroup
from balancer.formats.reference import example
from balancer.model.cluster import Host
from balancer.model.rule import SelectBy, Selector
from balancer.policy.capacity import Usable, usable
from balancer.policy.consistency import rule_warnings
from balancer.policy.interlock import Heed, Interlock
from balancer.policy.load import load_policy, parse_policy
from balancer.policy.policy import (
    Consolidation,
    Goal,
    Limits,
    Mode,
    Policy,
    Prefer,
    Reserve,
    Thresholds,
    TransportPolicy,
)
from balancer.policy.rules import KINDS, Allow, Apart, NeverMove, Together
from tests.notation import cluster

FULL = """\
version: 1
name: everything
mode: auto
goal: relieve
thresholds: {cpu: 70%, memory: 75.5%, imbalance: 8%}
reserve: {cpu: 5%, memory: 10%, memory_at_least: 8 GiB, host_failures: 1, domain_failure: site}
limits:
  migrations_per_run: 0
  concurrent_per_host: 2
  concurrent_per_cluster: 8
  bytes_per_run: 1 TiB
  duration_per_run: 2h
transport: {prefer: smb, write_settings: true}
consolidate: {margin: 20%, awake_at_least: 3, majority: true}
plan_lifetime: 90s
rules:
  - apart:
      vms: [a, {glob: "web-*"}, {tag: Prod}, {group: "SQL*"}, {priority: high}, {host: h1}]
      max_per_host: 2
      hard: false
      during: false
      name: spread out
  - together: {vms: [no, 012]}
  - allow: {vms: [a], hosts: [h1, {glob: "h*"}, {host: h2}]}
  - never_move: {vms: [a]}
"""


def test_every_key_becomes_its_field() -> None:
    policy = parse_policy(FULL, "dir/policy.yaml")
    assert policy == Policy(
        name="everything",
        mode=Mode.AUTO,
        goal=Goal.RELIEVE,
        thresholds=Thresholds(cpu=0.70, memory=0.755, imbalance=0.08),
        reserve=Reserve(
            cpu_fraction=0.05,
            memory_fraction=0.10,
            memory_bytes=8 * 2**30,
            host_failures=1,
            domain_failure="site",
        ),
        limits=Limits(
            migrations_per_run=0,
            concurrent_per_host=2,
            concurrent_per_cluster=8,
            bytes_per_run=2**40,
            duration_per_run_s=7200.0,
        ),
        transport=TransportPolicy(prefer=Prefer.SMB, write_settings=True),
        consolidation=Consolidation(margin=0.2, awake_at_least=3, majority=True),
        plan_lifetime_s=90.0,
        sha256=hashlib.sha256(FULL.encode()).hexdigest(),
        rules=(
            Apart(
                vms=(
                    Selector(SelectBy.EXACT, "a"),
                    Selector(SelectBy.GLOB, "web-*"),
                    Selector(SelectBy.TAG, "Prod"),
                    Selector(SelectBy.GROUP, "SQL*"),
                    Selector(SelectBy.PRIORITY, "high"),
                    Selector(SelectBy.HOST, "h1"),
                ),
                max_per_host=2,
                hard=False,
                during=False,
                name="spread out",
                origin="policy.yaml:17",
            ),
            Together(
                vms=(Selector(SelectBy.EXACT, "no"), Selector(SelectBy.EXACT, "012")),
                during=False,
                origin="policy.yaml:23",
            ),
            Allow(
                vms=(Selector(SelectBy.EXACT, "a"),),
                hosts=(
                    Selector(SelectBy.EXACT, "h1"),
                    Selector(SelectBy.GLOB, "h*"),
                    Selector(SelectBy.HOST, "h2"),
                ),
                origin="policy.yaml:24",
            ),
            NeverMove(vms=(Selector(SelectBy.EXACT, "a"),), origin="policy.yaml:25"),
        ),
    )


def test_what_is_not_written_is_the_built_in_default(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_bytes(b"version: 1\n")
    digest = hashlib.sha256(b"version: 1\n").hexdigest()
    assert load_policy(file) == Policy(name="plain", sha256=digest)
    assert not load_policy(file).transport.write_settings, "unsaid, it is off"


def test_memory_is_reserved_as_a_share_or_an_amount() -> None:
    def reserve(text: str) -> Reserve:
        return parse_policy(f"version: 1\nreserve: {{{text}}}\n", "p").reserve

    assert reserve("memory: 8 GiB") == Reserve(memory_bytes=8 * 2**30)
    assert reserve("memory: 8%") == Reserve(memory_fraction=0.08)
    assert reserve("memory: 8 GiB, memory_at_least: 1 GiB") == Reserve(memory_bytes=8 * 2**30)


@pytest.mark.parametrize(
    ("line", "place", "message", "remedy"),
    [
        ("mdoe: auto", "2:1: mdoe", "unknown key 'mdoe'", "did you mean mode?"),
        ("mode: automatic", "2:7: mode", "expected one of observe,", "did you mean"),
        (
            "goal: consolidate\nconsolidate:\n  margin: 80%",
            "4:11: consolidate.margin",
            "a margin of 80% leaves nothing of a threshold of 80%",
            "write a smaller margin",
        ),
        (
            "history: {window: 10m, hold: 1h}",
            "2:30: history.hold",
            "a hold of 1h is longer than a window of 10m: nothing lasts that long within it",
            "write a hold of at most 10m, or a window of at least 1h",
        ),
        (
            "history: {window: 10m}",
            "2:19: history.window",
            "a hold of 30m (by default) is longer than a window of 10m",
            "at least 30m",
        ),
        (
            "history: {hold: 5h}\naggressiveness: 3",
            "2:17: history.hold",
            "a hold of 5h is longer than a window of 4h (by aggressiveness 3)",
            "at most 4h",
        ),
        (
            "history: {window: 90m}\naggressiveness: 1",
            "2:19: history.window",
            "a hold of 2h (by aggressiveness 1) is longer than a window of 90m",
            "at least 2h",
        ),
        ("goal: rules_only", "2:7: goal", "expected one of rules-only,", "mean rules-only?"),
        ("thresholds: {cpu: 80}", "2:19: thresholds.cpu", "not '80'", "write for example 80%"),
        ("thresholds: {cpu: 0.8}", "2:19: thresholds.cpu", "not '0.8'", "80%"),
        ("thresholds: {cpu: 120%}", "2:19: thresholds.cpu", "1% to 100%", "80%"),
        ("thresholds: 80%", "2:13: thresholds", "a mapping", "mapping"),
        ("reserve: {memory: 100%}", "2:19: reserve.memory", "nothing would be left", "10%"),
        ("reserve: {memory: 32 GB}", "2:19: reserve.memory", "not '32 GB'", "8 GiB"),
        ("reserve: {memory_at_least: 8}", "2:28: reserve.memory_at_least", "'8'", "32 GiB"),
        ("reserve: {host_failures: 4}", "2:26: reserve.host_failures", "at most 3", "correct"),
        ("reserve: {host_failures: one}", "2:26: reserve.host_failures", "'one'", "example 1"),
        ("reserve: {domain_failure: ''}", "2:27: reserve.domain_failure", "not nothing", ""),
        ("limits: {migrations_per_run: -1}", "2:30: limits.migrations_per_run", "'-1'", "12"),
        ("limits: {concurrent_per_host: 0}", "2:31: limits.concurrent_per_host", "at least 1", ""),
        ("limits: {duration_per_run: 90}", "2:28: limits.duration_per_run", "'90'", "15m"),
        ("transport: {write_settings: yes}", "2:29: transport.write_settings", "'yes'", "true or"),
        ("transport: {require_encryption: true}", "2:13: transport.require", "unknown key", "use"),
        ("plan_lifetime: 0s", "2:16: plan_lifetime", "greater than 0", ""),
        ("rules: {apart: {vms: [a]}}", "2:8: rules", "expected a list", "after a dash"),
        ("rules: [appart: {vms: [a]}]", "2:9: rules[0].appart", "unknown key", "mean apart?"),
        ("rules: [apart: {vms: a}]", "2:22: rules[0].apart.vms", "expected a list", "after a dash"),
        ("rules: [apart: {vms: []}]", "2:22: rules[0].apart.vms", "at least one", "add an entry"),
        ("rules: [apart: {hard: true}]", "2:16: rules[0].apart.vms", "vms is missing", "add vms"),
        ("rules: [apart: {vms: [a], hard: no}]", "2:33: rules[0].apart.hard", "'no'", "true or"),
        ("rules: [apart: {vms: [a], hosts: [b]}]", "2:27: rules[0].apart.hosts", "unknown", "use"),
        ("rules: [apart: {vms: [{re: x}]}]", "2:23: rules[0].apart.vms[0]", "{glob: …}", "web-*"),
        ("rules: [apart: {vms: [{priority: 1}]}]", "2:23: rules[0].apart.vms[0]", "high", "high"),
        ("rules: [allow: {vms: [a], hosts: [{tag: x}]}]", "2:35: rules[0].allow", "tag", ""),
        ("rules: [{apart: {vms: [a]}, pin: {vms: [a], hosts: [b]}}]", "2:9: rules[0]", "one", ""),
        ("rules: [{}]", "2:9: rules[0]", "exactly one kind", "write for example"),
        ("rules: [apart]", "2:9: rules[0]", "a mapping", ""),
        ("rules: [apart: ]", "2:9: rules[0]", "exactly one kind", ""),
    ],
)  # fmt: skip
def test_each_fault_has_its_place_its_message_and_its_remedy(
    line: str, place: str, message: str, remedy: str
) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(f"version: 1\n{line}\n", "policy.yaml")
    error = caught.value
    assert not isinstance(error, InputErrorGroup), str(error)
    assert str(error.place).startswith(f"policy.yaml:{place}")
    assert message in error.message
    assert error.remedy
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode: auto\n", "version is missing"),
        ("version: 2\n", "expected one of 1, not '2'"),
        ("version: 1.0\n", "expected one of 1, not '1.0'"),
    ],
)
def test_the_version_has_to_be_said(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_policy(text, "policy.yaml")


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_in_the_dictionary_can_be_written(name: str) -> None:
    text = f"version: 1\nrules:\n  - {example(KINDS[name])}\n"
    (rule,) = parse_policy(text, "p.yaml").rules
    assert type(rule) is KINDS[name]
    assert rule.origin == "p.yaml:3"
    for field in dataclasses.fields(rule):
        unsaid = field.name != "origin" and field.default is not dataclasses.MISSING
        assert not unsaid or getattr(rule, field.name) == field.default


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_kind_refuses_the_keys_that_make_no_sense_for_it(name: str) -> None:
    for key in KINDS[name].withheld:
        with pytest.raises(InputError, match="unknown key"):
            parse_policy(f"version: 1\nrules:\n  - {name}: {{{key}: true}}\n", "p.yaml")


def test_a_rule_on_an_unknown_vm_warns_with_its_line() -> None:
    policy = parse_policy("version: 1\nrules:\n  - never_move: {vms: [ghost]}\n", "policy.yaml")
    (warning,) = rule_warnings(cluster("h1: a\nh2:"), policy)
    assert warning.startswith("policy.yaml:3: ")
    assert "no VM matches ghost" in warning


def test_the_interlock_is_what_it_says_and_defaults_to_the_safe_words() -> None:
    written = "{built_in_balancer: take_over, scvmm: ignore, node_drain: refuse}"
    policy = parse_policy(f"version: 1\ninterlock: {written}\n", "p.yaml")
    assert policy.interlock == Interlock(Heed.TAKE_OVER, Heed.IGNORE, Heed.WAIT, Heed.REFUSE)
    assert parse_policy("version: 1\ninterlock: {}\n", "p.yaml").interlock == Interlock()


@pytest.mark.parametrize("who", ["scvmm", "cluster_aware_updating", "node_drain"])
def test_only_the_built_in_balancer_can_be_taken_over(who: str) -> None:
    with pytest.raises(InputError, match=r"p.yaml:2.*expected one of refuse, wait, ignore"):
        parse_policy(f"version: 1\ninterlock: {{{who}: take_over}}\n", "p.yaml")


def test_a_reserve_of_hosts_is_a_share_or_an_amount() -> None:
    text = """\
version: 1
rules:
  - reserve: {hosts: [h1, {glob: "big*"}], cpu: 20%, memory: 25%}
  - reserve: {hosts: [h1], memory: 32 GiB}
"""
    policy = parse_policy(text, "p.yaml")
    host = Host("BIG7", cpu_cores=10, memory_bytes=64 * 2**30)
    assert usable(host, policy) == Usable(8.0, 48 * 2**30)
    assert usable(dataclasses.replace(host, name="h1"), policy).memory_bytes == 32 * 2**30
    assert usable(dataclasses.replace(host, name="h2"), policy) == Usable(10.0, 64 * 2**30)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("reserve: {hosts: [h1], cpu: 20}", "expected a percentage"),
        ("reserve: {hosts: [h1], memory: 20}", "expected a percentage or a size"),
        ("only_during: {vms: [a], windows: []}", "at least one entry"),
        ("only_during: {vms: [a], windows: [{days: [someday]}]}", "expected one of mon"),
        ("max_vms: {hosts: [h1], limit: 0}", "at least 1"),
        ("spread: {vms: [a], domain: ' '}", "expected text"),
    ],
)
def test_a_wrong_value_in_a_rule_is_told_with_its_place(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_policy(f"version: 1\nrules:\n  - {rule}\n", "p.yaml")
    assert str(caught.value).startswith("p.yaml:3:")
