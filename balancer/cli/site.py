"""A configured cluster, ready to be read and driven: what the verbs on real clusters share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from balancer.cli.options import Read, Source
from balancer.clock import Clock, SystemClock
from balancer.config import ClusterPart, Config, load_config
from balancer.connect import connect
from balancer.formats.snapshot import snapshot_sha256
from balancer.gateway.port import Gateway
from balancer.model.aside import Aside
from balancer.model.cluster import Cluster
from balancer.policy.load import load_policy
from balancer.policy.policy import Policy
from balancer.store.store import Store

if TYPE_CHECKING:
    from balancer.hindsight import Hindsight


@dataclass(frozen=True, slots=True)
class Site:
    """One cluster of the configuration and the policy that governs it."""

    config: Config
    part: ClusterPart
    policy: Policy

    @property
    def name(self) -> str:
        """Return the cluster's name, as leases and records know it."""
        return self.part.name

    @contextmanager
    def gateway(self, clock: Clock) -> Iterator[Gateway]:
        """Connect for the duration of a with-block."""
        gateway = connect(self.config, self.part, clock)
        try:
            yield gateway
        finally:
            gateway.close()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open journal and history for the duration of a with-block."""
        store = Store.open(self.config.store)
        try:
            yield store
        finally:
            store.close()


def open_site(source: Source) -> Site:
    """Find the configured cluster that the options mean.

    Raises:
        InputError: Configuration or policy are missing or wrong.
    """
    config = load_config(source.config)
    part = config.cluster(source.cluster)
    return Site(config, part, _policy(config, part, source.policy_file))


def _policy(config: Config, part: ClusterPart, given: Path | None) -> Policy:
    if given is not None:
        return load_policy(given)
    if part.policy is not None:
        return load_policy(config.beside(part.policy))
    return Policy()


def look_back(source: Source, cluster: Cluster, policy: Policy) -> Hindsight | None:
    """Return what the records know of the cluster's past; None where there are none yet."""
    store = Store.peek(open_site(source).config.store)
    if store is None:
        return None
    from balancer.hindsight import hindsight  # noqa: PLC0415 -- numpy: start-up time

    with store:
        return hindsight(store, cluster, policy, SystemClock().now(), unattended=False)


def observe_site(source: Source) -> Read:
    """Observe the configured cluster once, and look up what is set aside there."""
    site, clock = open_site(source), SystemClock()
    with site.gateway(clock) as gateway:
        seen = gateway.observe()
    asides: tuple[Aside, ...] = ()
    if (store := Store.peek(site.config.store)) is not None:
        with store:
            asides = store.asides.active(site.name, clock.now())
    return Read(seen.cluster, snapshot_sha256(seen.cluster), seen.notes, asides)
