"""Leases: one holder at a time, a number that only grows, clocks that jump."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.errors import ExitCode, HeldError
from balancer.store.leases import LeaseLostError, holder_name
from balancer.store.store import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_one_at_a_time_until_it_ends_or_expires() -> None:
    with Store.open("sqlite://") as store:
        first = store.leases.acquire("c", "a", 60.0, NOW)
        with pytest.raises(HeldError, match="held by a") as caught:
            store.leases.acquire("c", "b", 60.0, later(59))
        assert caught.value.exit_code is ExitCode.HELD_BY_OTHER
        assert "1 s" in caught.value.remedy
        assert store.leases.current("c", later(59)) == first
        assert store.leases.current("c", later(60)) is None
        second = store.leases.acquire("c", "b", 60.0, later(60))
        store.leases.release(second)
        third = store.leases.acquire("c", "a", 60.0, later(61))
        assert first.fence < second.fence < third.fence


def test_the_number_grows_even_when_the_clock_goes_back_or_the_store_is_lost() -> None:
    with Store.open("sqlite://") as store:
        first = store.leases.acquire("c", "a", 60.0, NOW)
        store.leases.release(first)
        second = store.leases.acquire("c", "a", 60.0, NOW - timedelta(days=400))
        assert second.fence > first.fence
    with Store.open("sqlite://") as anew:
        third = anew.leases.acquire("c", "a", 60.0, later(3600))
        assert third.fence > second.fence
        assert third.fence < 2**31


def test_renewing_works_until_somebody_else_took_over() -> None:
    with Store.open("sqlite://") as store:
        lease = store.leases.acquire("c", "a", 60.0, NOW)
        lease = store.leases.renew(lease, later(50))
        assert lease.expires_at == later(110)
        lease = store.leases.renew(lease, later(500))  # late, but nobody wanted it
        newer = store.leases.acquire("c", "b", 60.0, later(1000))
        with pytest.raises(LeaseLostError, match="b holds it"):
            store.leases.renew(lease, later(1001))
        store.leases.release(lease)  # lets go of nothing that is another's
        assert store.leases.current("c", later(1001)) == newer
        store.leases.release(newer)
        with pytest.raises(LeaseLostError, match="nobody"):
            store.leases.renew(newer, later(1002))


def test_holding_lets_go_whatever_happens() -> None:
    clock = VirtualClock()
    with Store.open("sqlite://") as store:
        with (
            pytest.raises(KeyError),
            store.leases.hold("c", holder_name(), clock),
        ):
            raise KeyError
        with store.leases.hold("c", "b", clock) as lease:
            assert lease.holder == "b"
        assert store.leases.current("c", clock.now()) is None


def test_of_many_who_want_it_at_once_one_gets_it(tmp_path: Path) -> None:
    won: list[str] = []
    lost: list[str] = []
    with Store.open(tmp_path / "s.db") as store:

        def want(name: str) -> None:
            try:
                store.leases.acquire("c", name, 60.0, NOW)
                won.append(name)
            except HeldError:
                lost.append(name)

        threads = [threading.Thread(target=want, args=(f"t{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (len(won), len(lost)) == (1, 7)
