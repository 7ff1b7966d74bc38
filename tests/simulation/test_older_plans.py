"""A plan that was made before others were carried out: cool-downs and budgets bind it all the same.

The plan was right when it was made. What has been moved since is known when it is applied.
"""

from __future__ import annotations

import pytest

from balancer.errors import RefusedError
from balancer.formats.plan import plan_to_json
from balancer.model.outcome import RunEnd
from balancer.policy.policy import Limits, Policy
from balancer.policy.stability import Cooldown
from balancer.service.events import EventKind
from tests.simulation.daemon import Daemon, setup
from tests.simulation.small import GIB, Small
from tests.simulation.test_execute import Bench

HOUR_S = 3600.0
CALM = Policy(cooldown=Cooldown(vm_s=4 * HOUR_S))
BACK = Policy(cooldown=Cooldown(undo_s=48 * HOUR_S))


@pytest.mark.parametrize(
    ("policy", "move", "why"),
    [
        (CALM, ("m2", "v11", "h3"), "v11 was migrated at 00:00: it is left alone"),
        (BACK, ("m2", "v11", "h1"), "it does not go back yet"),
        (Policy(limits=Limits(migrations_per_day=1)), ("m2", "v21", "h3"), "1 are allowed"),
        (Policy(limits=Limits(bytes_per_day=5 * GIB)), ("m2", "v21", "h3"), "copied in 24 hours"),
    ],
    ids=["cool-down", "undo", "number a day", "bytes a day"],
)
def test_it_is_refused_with_the_reason_and_carried_out_in_time(
    policy: Policy, move: tuple[str, str, str], why: str
) -> None:
    bench = Bench()
    assert bench.run(bench.small.plan([("m1", "v11", "h2")]), policy).end is RunEnd.DONE
    starts = bench.starts
    with pytest.raises(RefusedError, match=why):
        bench.run(bench.small.plan([move]), policy)
    assert bench.starts == starts
    bench.small.clock.sleep(49 * HOUR_S)
    assert bench.run(bench.small.plan([move]), policy).end is RunEnd.DONE


def test_what_a_person_asks_for_is_not_bound() -> None:
    small = Small()
    daemon = Daemon(small, setup(small, "cooldown: {vm: 4h}"))
    daemon.run(minutes=1)
    answers = {}
    for number, (verb, target) in enumerate((("apply", "h2"), ("apply", "h3"), ("move", "h3"))):
        plan = small.plan([("m1", "v11", target)])
        daemon.store.plans.save(plan, plan_to_json(plan))
        request = daemon.ask(verb, plan=plan.id)
        daemon.run(minutes=3)
        answers[number] = daemon.store.requests.get(request)
    assert [one.exit_code for one in answers.values()] == [0, 3, 0]
    assert "left alone for now" in answers[1].text
    assert daemon.count(EventKind.MIGRATION_DONE) == 2
    assert small.host_of("v11") == "h3"
