"""Why a plan does nothing else: restraints of the past, and searches that ended too soon."""

from __future__ import annotations

import pytest

from balancer.errors import InputError
from balancer.model.past import Past, Trouble
from balancer.planner import plan
from balancer.planner.whynot import Inquiry
from balancer.planner.whynothost import about_host
from balancer.policy.policy import Limits, Policy
from tests.notation import cluster
from tests.unit.planner.oracle import NOW

UNEVEN = "h1 64G 16c: a 8G 4c, b 8G 3c\nh2 64G 16c: c 8G 1c"
EVEN = "h1 64G 16c: a 8G 2c\nh2 64G 16c: b 8G 2c"


def asked(text: str, policy: Policy, past: Past | None = None) -> Inquiry:
    seen = cluster(text)
    return Inquiry(seen, policy, plan(seen, policy, now=NOW, past=past), past)


def test_what_has_not_lasted_yet_is_why_a_vm_stays() -> None:
    lasting = {Trouble.OVERLOAD: frozenset[str](), Trouble.UNEVEN: frozenset[str]()}
    told = asked(UNEVEN, Policy(), Past(NOW, lasting=lasting, hold_s=900.0)).vm("b", "h2")
    assert told.reason == "it has not lasted for 15m yet"
    short = Past(NOW, short_of="there are 20 min of history, 1 h are wanted")
    assert asked(UNEVEN, Policy(), short).vm("b").reason == short.short_of


def test_within_the_dead_band_nothing_is_evened_out() -> None:
    told = about_host(asked(EVEN, Policy()), "h2")
    (one,) = told.not_to
    assert one.vms == 1
    assert one.reason == (
        "could: every host is within 5 % of the mean, and nothing moves to even that out"
    )


def test_a_plan_that_was_cut_short_says_so_of_what_would_be_better() -> None:
    seen, policy = cluster(UNEVEN), Policy()
    made = plan(seen, policy, now=NOW, elapsed_s=lambda: 9.0, time_limit_s=1.0)
    assert made.migrations == ()
    (one,) = Inquiry(seen, policy, made).vm("b", "h2").instead
    assert one.says.startswith("it would be better (balance score ")
    assert one.says.endswith("but the search did not find it before it ended (time)")


def test_a_cap_that_is_used_up_is_what_is_told() -> None:
    told = asked(UNEVEN, Policy(limits=Limits(migrations_per_run=0))).vm("b", "h2")
    assert told.instead[0].says == "the cap of 0 migrations is used up"


def test_a_plan_for_other_vms_is_refused() -> None:
    made = plan(cluster(UNEVEN), Policy(), now=NOW)
    with pytest.raises(InputError, match="which are not in this cluster"):
        Inquiry(cluster(EVEN.replace("b ", "z ")), Policy(), made)
