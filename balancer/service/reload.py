"""Reading everything the daemon goes by: whole and right, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from balancer.clock import Clock
from balancer.config import ClusterPart, Config, load_config, read_password
from balancer.connect import connect
from balancer.gateway.port import Gateway
from balancer.policy.load import load_policy
from balancer.policy.policy import Policy
from balancer.service.loop import Setup
from balancer.service.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Plant:
    """A configuration with everything it names, read and checked."""

    config: Config
    setups: dict[str, Setup]


def read_plant(file: Path | None, clock: Clock, only: str | None = None) -> Plant:
    """Read the configuration, every policy and every password that it names.

    `only` is the one cluster to look after; None is all.

    Raises:
        InputError: Something is missing or wrong; the message says what and where.
    """
    config = load_config(file)
    parts, wanted = config.document.clusters, None if only is None else config.cluster(only)
    setups = {
        part.name: _setup(config, part, clock, share=number / len(parts))
        for number, part in enumerate(parts)
        if wanted in (None, part)
    }
    return Plant(config, setups)


def _setup(config: Config, part: ClusterPart, clock: Clock, share: float) -> Setup:
    policy = Policy() if part.policy is None else load_policy(config.beside(part.policy))

    def make() -> Gateway:
        return connect(config, part, clock)

    make().close()  # addresses and passwords are checked now, not when the cluster is first read
    return Setup(
        part=part,
        service=config.document.service,
        policy=policy,
        schedule=Schedule(part.schedule, part.name, share),
        connect=make,
        login=read_password(config, part.connection),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """What another configuration means for the clusters that are looked after."""

    added: tuple[Setup, ...]
    removed: tuple[str, ...]
    changed: tuple[Setup, ...]

    def __str__(self) -> str:
        return f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed"


def difference(before: Plant, after: Plant) -> Difference:
    """Return which clusters come, go, and go by something else."""
    return Difference(
        added=tuple(setup for name, setup in after.setups.items() if name not in before.setups),
        removed=tuple(name for name in before.setups if name not in after.setups),
        changed=tuple(
            setup
            for name, setup in after.setups.items()
            if name in before.setups and not _same(before.setups[name], setup)
        ),
    )


def _same(before: Setup, after: Setup) -> bool:
    return all(
        getattr(before, name) == getattr(after, name)
        for name in ("part", "service", "policy", "login")
    )
