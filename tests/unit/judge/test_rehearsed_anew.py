"""What the judge rehearses anew when something arrives."""

from __future__ import annotations

import pytest

from balancer.judge.drill import Drill, Failed
from balancer.judge.rehearsal import Rehearsal
from balancer.judge.way import Way
from balancer.model.rule import SelectBy, Selector
from balancer.policy.policy import Policy, Reserve
from balancer.policy.rules import Apart
from tests.notation import cluster

# Each failure leaves 12 GiB for which only one hole is large enough; h5 and h6 have small ones.
TIGHT = """
h1 20G: a 12G
h2 20G: b 12G
h3 20G: c 12G
h4 20G: d 6G
h5 8G: p 1G
h6 8G: q 1G
h7 8G:
"""


def test_only_failures_that_asked_for_the_place_of_a_vm_are_rehearsed_when_it_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rule of p and q says nothing of what restarts from h1 to h4."""
    rules = tuple(
        Apart(vms=tuple(Selector(SelectBy.EXACT, vm) for vm in vms)) for vms in ("pq", "abcd")
    )
    seen = cluster(TIGHT, rules=rules)
    way = Way(Drill(seen, Policy(reserve=Reserve(host_failures=1))), {
        vm.id: vm.host for vm in seen.vms
    }, [("p", "h7")])  # fmt: skip
    anew: list[Failed] = []
    rehearsed = way._rehearsed

    def noted(failed: Failed) -> Rehearsal:
        anew.append(failed)
        return rehearsed(failed)

    way.known |= {frozenset({name}): rehearsed(frozenset({name})) for name in ("h1", "h2", "h3")}
    monkeypatch.setattr(way, "_rehearsed", noted)
    way.start("p", "h7")
    way.end("p", "h7")
    assert not {frozenset({name}) for name in ("h1", "h2", "h3")} & set(anew)
