"""Minimal and smallest conflicts of abstract claims, against every subset."""

from __future__ import annotations

from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.planner.smallest import hitting_set, minimal, smallest

CLAIMS = 6
Sets = list[frozenset[int]]


def subsets(of: frozenset[int]) -> list[frozenset[int]]:
    each = (combinations(sorted(of), size) for size in range(len(of) + 1))
    return [frozenset(some) for some in chain.from_iterable(each)]


class Known:
    """An oracle that was told the conflicts."""

    def __init__(self, conflicts: Sets) -> None:
        self.conflicts = conflicts

    def fails(self, kept: frozenset[int]) -> bool:
        return any(conflict <= kept for conflict in self.conflicts)

    def correction(self, kept: frozenset[int]) -> frozenset[int] | None:
        everything = frozenset(range(CLAIMS))
        able = [gone for gone in subsets(everything - kept) if not self.fails(everything - gone)]
        return min(able, key=len, default=None)


some_sets = st.lists(
    st.frozensets(st.integers(0, CLAIMS - 1), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(some_sets)
def test_a_conflict_is_minimal_first_and_smallest_then(conflicts: Sets) -> None:
    oracle = Known(conflicts)
    found = minimal(range(CLAIMS), oracle)
    assert oracle.fails(found)
    assert not any(oracle.fails(found - {one}) for one in found)
    small, proven = smallest(found, oracle, 40)
    assert proven
    assert oracle.fails(small)
    assert len(small) == min(len(conflict) for conflict in conflicts)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(some_sets)
def test_a_hitting_set_hits_all_and_is_smallest(sets: Sets) -> None:
    found = hitting_set(sets)
    assert found is not None
    hits = [some for some in subsets(frozenset(range(CLAIMS))) if all(some & one for one in sets)]
    assert found in hits
    assert len(found) == min(map(len, hits))


def test_without_rounds_a_minimal_conflict_is_not_called_smallest() -> None:
    oracle = Known([frozenset({0, 1, 2}), frozenset({3})])
    assert smallest(frozenset({0, 1, 2}), oracle, 0) == (frozenset({0, 1, 2}), False)
