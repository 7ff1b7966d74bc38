"""The administrator's commands on empty hosts, several hosts side by side, until each is healthy.

Commands run as processes of their own and are only looked at; so one executor goes on keeping its
lease, and telling that it lives, while a host is patched for an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from balancer.clock import Clock
from balancer.errors import UnreachableError
from balancer.execute.leaving import storage_is_sound
from balancer.gateway.names import host_key
from balancer.gateway.port import Gateway, Observation
from balancer.model.cluster import HostState

HOST_WORD = "{host}"  # in a command's words it stands for the host
LOOK_S = 1.0  # between two looks at commands that run
HEALTHY_POLL_S = 10.0
# A host that was told to restart answers for some seconds more; so once is not enough.
HEALTHY_LOOKS = 3


class Running(Protocol):
    """A command that was started."""

    def ended(self) -> str | None:
        """Return None while it runs, then why it failed, or nothing when it went well."""
        ...


# Starts a command's words with more variables, to be killed after some seconds.
StartCommand = Callable[[Sequence[str], Mapping[str, str], float], Running]


def words_for(command: Sequence[str], host: str) -> tuple[str, ...]:
    """Return a command's words for a host."""
    return tuple(word.replace(HOST_WORD, host) for word in command)


def is_healthy(seen: Observation, host: str) -> bool:
    """Tell whether a host answers and is a member, paused as we left it, storage in order."""
    state = next(
        (one.state for one in seen.cluster.hosts if host_key(one.name) == host_key(host)), None
    )
    sound = seen.estate is None or storage_is_sound(seen.estate)
    return sound and state in (HostState.UP, HostState.PAUSED)


@dataclass(slots=True)
class Job:
    """What is going on with one host: the next command, the one that runs, or a wait."""

    host: str
    hook: int  # commands that have ended well
    running: Running | None = None
    waits_since_s: float | None = None
    looked_s: float = 0.0
    healthy_looks: int = 0


class Foreman(Protocol):
    """Whoever has hosts worked on: keeps the record, and says when to stop."""

    def began(self, host: str, words: Sequence[str]) -> None:
        """Hear that a command begins."""
        ...

    def ended(self, host: str, hook: int) -> None:
        """Write down that so many commands have ended well."""
        ...

    def failed(self, host: str, hook: int, why: str) -> None:
        """Write down that a host is given up; it stays paused."""
        ...

    def ready(self, host: str) -> None:
        """Take a host back that is healthy."""
        ...

    def stopping(self) -> bool:
        """Tell whether nothing more should begin; asked at every look."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """The work on the empty hosts of one turn."""

    commands: tuple[tuple[str, ...], ...]
    timeout_s: float
    healthy_s: float
    variables: Mapping[str, str]
    gateway: Gateway
    clock: Clock
    start: StartCommand
    foreman: Foreman

    def run(self, jobs: Iterable[Job]) -> None:
        """Work until every host is taken back or given up.

        Asked to stop, commands that run are seen to their end, and nothing more begins.
        """
        left = list(jobs)
        while left:
            stopping = self.foreman.stopping()
            seen = _Once(self.gateway)
            left = [job for job in left if self._goes_on(job, seen, stopping=stopping)]
            if left:
                self.clock.sleep(LOOK_S)

    def _goes_on(self, job: Job, seen: _Once, *, stopping: bool) -> bool:
        """Do what is next for one host; tell whether it is still being worked on."""
        if job.running is not None:
            return self._is_running(job, job.running)
        if stopping:
            return False
        if job.hook < len(self.commands):
            words = words_for(self.commands[job.hook], job.host)
            self.foreman.began(job.host, words)
            variables = {**self.variables, "BALANCER_HOST": job.host}
            job.running = self.start(words, variables, self.timeout_s)
            return True
        return self._waits(job, seen)

    def _is_running(self, job: Job, running: Running) -> bool:
        why = running.ended()
        if why is None:
            return True
        job.running = None
        if why:
            self.foreman.failed(job.host, job.hook, f"{self.commands[job.hook][0]}: {why}")
            return False
        job.hook += 1
        self.foreman.ended(job.host, job.hook)
        return True

    def _waits(self, job: Job, seen: _Once) -> bool:
        now_s = self.clock.monotonic_s()
        if job.waits_since_s is None:
            job.waits_since_s = now_s
        elif now_s - job.looked_s < HEALTHY_POLL_S:
            return True
        job.looked_s = now_s
        found = seen()
        is_well = found is not None and is_healthy(found, job.host)
        job.healthy_looks = job.healthy_looks + 1 if is_well else 0
        if job.healthy_looks >= (HEALTHY_LOOKS if self.commands else 1):
            self.foreman.ready(job.host)
            return False
        if now_s - job.waits_since_s > self.healthy_s:
            text = f"it was not healthy within {self.healthy_s:.0f} s"
            self.foreman.failed(job.host, job.hook, text)
            return False
        return True


class _Once:
    """Reads the cluster when first asked; several hosts are looked at on one reading."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._read: list[Observation | None] = []

    def __call__(self) -> Observation | None:
        if not self._read:
            try:
                self._read.append(self._gateway.observe())
            except UnreachableError:
                self._read.append(None)
        return self._read[0]
