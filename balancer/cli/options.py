"""Options that several verbs share: where the cluster is read from, and by which policy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from balancer.clock import SystemClock
from balancer.errors import InputError
from balancer.model.aside import Aside
from balancer.model.cluster import Cluster
from balancer.policy.policy import Policy

if TYPE_CHECKING:
    from balancer.hindsight import Hindsight

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Read:
    """A cluster as read, from wherever it was, and what is set aside there."""

    cluster: Cluster
    sha256: str
    warnings: tuple[str, ...]
    asides: tuple[Aside, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read the cluster and the policy from: a snapshot file, or a configured site."""

    snapshot: Path | None
    config: Path | None
    cluster: str | None
    policy_file: Path | None

    def read(self) -> Read:
        """Read the snapshot, or observe the configured cluster."""
        if self.snapshot is not None:
            from balancer.formats.snapshot import read_snapshot  # noqa: PLC0415 -- start-up time

            read = read_snapshot(self.snapshot)
            name = read.cluster.name
            if self.cluster is not None and name.casefold() != self.cluster.casefold():
                raise InputError(
                    f"{self.snapshot} is a snapshot of {name!r}, not of {self.cluster!r}",
                    remedy="leave out --cluster, or give the snapshot of that cluster",
                )
            return Read(read.cluster, read.sha256, read.warnings)
        from balancer.cli.site import observe_site  # noqa: PLC0415 -- start-up time

        return observe_site(self)

    def behind(self, cluster: Cluster, policy: Policy) -> Hindsight | None:
        """Return what the site's records know of the past; None for a snapshot from a file."""
        if self.snapshot is not None:
            return None
        from balancer.cli.site import look_back  # noqa: PLC0415 -- start-up time

        return look_back(self, cluster, policy)

    def policy(self) -> Policy:
        """Load the policy named on the command line, else the site's, else the built-in one."""
        from balancer.policy.load import load_policy  # noqa: PLC0415 -- start-up time

        if self.policy_file is not None:
            return load_policy(self.policy_file)
        if self.snapshot is not None:
            return Policy()
        from balancer.cli.site import open_site  # noqa: PLC0415 -- start-up time

        return open_site(self).policy


class Finite(click.FloatRange):
    """A range of numbers that does not let `nan` and `inf` through."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SECONDS = Finite(min=0.0)


def seconds_since_start() -> Callable[[], float]:
    """Return what tells how long the command has been running, its start-up included."""
    clock = SystemClock()
    context = click.get_current_context(silent=True)
    began_s = None if context is None else context.obj
    origin_s = began_s if isinstance(began_s, float) else clock.monotonic_s()
    return lambda: clock.monotonic_s() - origin_s


def examples(*lines: str) -> str:
    """Return an epilog of commands to try, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


_FILE = click.Path(path_type=Path, allow_dash=True)
_SNAPSHOT = click.option(
    "--snapshot",
    type=_FILE,
    metavar="FILE",
    help="Read this snapshot instead of a cluster; `-` is stdin.",
)
_CONFIG = click.option(
    "--config",
    type=_FILE,
    metavar="FILE",
    help="Configuration; by default $BALANCER_CONFIG, ./balancer.yaml or "
    "/etc/balancer/balancer.yaml.",
)
_CLUSTER = click.option("--cluster", metavar="NAME", help="Which cluster, where several are known.")
_POLICY = click.option(
    "--policy", type=_FILE, metavar="FILE", help="Policy, instead of the configured one."
)


def records_options(function: Callable[Concatenate[Source, P], R]) -> Callable[P, R]:
    """Add --config and --cluster, and pass them on as one `Source`."""
    return _with(function, _CONFIG, _CLUSTER)


def site_options(function: Callable[Concatenate[Source, P], R]) -> Callable[P, R]:
    """Add --config, --cluster and --policy, and pass them on as one `Source`."""
    return _with(function, _CONFIG, _CLUSTER, _POLICY)


def source_options(function: Callable[Concatenate[Source, P], R]) -> Callable[P, R]:
    """Add --snapshot beside --config, --cluster and --policy."""
    return _with(function, _SNAPSHOT, _CONFIG, _CLUSTER, _POLICY)


def _with(
    function: Callable[Concatenate[Source, P], R],
    *options: Callable[[Callable[P, R]], Callable[P, R]],
) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        source = Source(
            snapshot=_path(kwargs.pop("snapshot", None)),
            config=_path(kwargs.pop("config", None)),
            cluster=_text(kwargs.pop("cluster", None)),
            policy_file=_path(kwargs.pop("policy", None)),
        )
        if str(source.snapshot) == str(source.policy_file) == "-":
            raise InputError(
                "snapshot and policy cannot both come from stdin", remedy="give a file for one"
            )
        return function(source, *args, **kwargs)

    made: Callable[P, R] = wrapped
    for option in reversed(options):
        made = option(made)
    return made


def _path(value: object) -> Path | None:
    return value if isinstance(value, Path) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
