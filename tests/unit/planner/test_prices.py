"""What a price says of itself is true: what is proven to buy nothing buys nothing."""

from __future__ import annotations

from balancer.model.rule import SelectBy, Selector
from balancer.planner import plan, prices
from balancer.policy.policy import Policy
from balancer.policy.rules import AsOne, Avoid
from tests.notation import cluster
from tests.unit.planner.oracle import NOW


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def test_what_no_schedule_could_keep_whole_is_not_proven_to_buy_nothing() -> None:
    # Without the second rule the search wants b and a to change places, for which there is no
    # room on the way, and all of it is given up: a alone would have ended the overload of h2.
    seen = cluster("h1 32G 16c: b 8G 6c\nh2 16G 16c: a 12G 3c, c 2G 0.5c !assigned_device")
    together = AsOne(vms=names("a", "b", "c"))
    avoid = Avoid(vms=names("a"), hosts=names("h1"))
    one = plan(seen, Policy(rules=(together,)), now=NOW, max_migrations=1)
    assert [(move.vm, move.target) for move in one.migrations] == [("a", "h1")]
    found = prices(seen, Policy(rules=(together, avoid)), now=NOW)
    (price,) = [price for price in found.prices if price.relaxed == "without avoid [a]"]
    assert not price.proven
    assert price.buys or price.at_most is None, "no bound says that nothing is to be had"
