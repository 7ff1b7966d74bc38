"""Walking a whole cluster, batch by batch: drain, run the administrator's commands, take back.

Where it stands is in the store before each step is taken, so whoever starts it again, after a
stop, a crash or the end of a window, goes on with the step at hand: a drain is carried on, a hook
command that had not ended well is run again, a host that is done stays done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from balancer.clock import Clock
from balancer.errors import RefusedError, UnreachableError
from balancer.execute.drain import drain
from balancer.execute.progress import OnProgress, never, silent
from balancer.execute.resume import resume
from balancer.gateway.port import Gateway
from balancer.model.cluster import Cluster, HostState
from balancer.model.drain import OnFailure, Order
from balancer.model.outcome import RunEnd
from balancer.policy.policy import Policy
from balancer.store.campaigns import Campaign, CampaignHost, CampaignState, HostStep
from balancer.store.leases import Lease
from balancer.store.store import Store

HOST_WORD = "{host}"  # in a command's words it stands for the host
HEALTHY_POLL_S = 10.0

# Runs one command with the host in its words and as BALANCER_HOST; returns why it failed, or "".
RunCommand = Callable[[Sequence[str], str, float], str]


@dataclass(frozen=True, slots=True)
class Rolling:
    """What a campaign does with each host.

    Attributes:
        commands: In order, each a list of words: patch, reboot, check.
        timeout_s: For each command.
        healthy_s: How long a host may take after them to answer and be a member again.
        failures_max: After so many failed hosts the campaign stops.
        restore: Bring back what was on a host before the next one has its turn.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    timeout_s: float = 7200.0
    healthy_s: float = 3600.0
    failures_max: int = 1
    restore: bool = True
    keep_reserve: bool = False
    asked_by: str = ""


def order_of(cluster: Cluster, hosts: Sequence[str]) -> tuple[str, ...]:
    """Return hosts in the order of their turns: those with the least memory to move first.

    The bytes of all drains and returns together do not depend on the order; what moves first
    should be what is over soonest, so that a fault of the patch shows before much was moved.
    """

    def load(name: str) -> tuple[int, str]:
        on = cluster.vms_on.get(name, ())
        return sum(vm.memory_assigned_bytes for vm in on if vm.is_load), name

    return tuple(sorted(hosts, key=load))


@dataclass
class Walk:
    """One campaign being walked."""

    rolling: Rolling
    policy: Policy
    gateway: Gateway
    store: Store
    clock: Clock
    lease: Lease
    run_command: RunCommand
    interrupted: Callable[[], bool] = never
    on_progress: OnProgress = silent
    on_step: Callable[[str, str, str], None] = lambda host, step, text: None  # noqa: ARG005
    poll_s: float = 2.0

    def run(self, campaign: int) -> Campaign:
        """Go on until all hosts are done, a rule or somebody stops it, or the window closes.

        Raises:
            HeldError: Another executor has the cluster.
            StoreError: The store cannot be written.
        """
        campaigns = self.store.campaigns
        campaigns.enter(self.lease, campaign, CampaignState.GOING, self.clock.now())
        for host in campaigns.get(campaign).hosts:
            if host.step.is_final:
                continue
            if why := self._why_stop(campaign, host):
                campaigns.enter(self.lease, campaign, CampaignState.STOPPED, self.clock.now(), why)
                return campaigns.get(campaign)
            self._one(campaign, host)
        if why := self._why_stop(campaign, None):
            campaigns.enter(self.lease, campaign, CampaignState.STOPPED, self.clock.now(), why)
        else:
            campaigns.enter(self.lease, campaign, CampaignState.DONE, self.clock.now())
        return campaigns.get(campaign)

    def take_up(self, campaign: int) -> None:
        """Give hosts that failed another turn: drained again if need be, all commands run again."""
        for host in self.store.campaigns.get(campaign).hosts:
            if host.step is HostStep.FAILED:
                self._step(campaign, host.host, HostStep.DRAINING, reason="another try")

    def _why_stop(self, campaign: int, host: CampaignHost | None) -> str:
        now = self.store.campaigns.get(campaign)
        failed = sum(one.step is HostStep.FAILED for one in now.hosts)
        if failed >= self.rolling.failures_max:
            return f"{failed} hosts failed"
        if self.interrupted() and any(not one.step.is_final for one in now.hosts):
            return "asked to stop"
        begun = host is not None and host.step is not HostStep.WAITING
        if host is not None and not begun and not self.policy.calendar.is_open(self.clock.now()):
            return "no window is open: start it again in the next one"
        return ""

    def _one(self, campaign: int, host: CampaignHost) -> None:
        """Take one host from where it stands to its end, or as far as it gets."""
        try:
            if host.step in (HostStep.WAITING, HostStep.DRAINING):
                if not self._drain(campaign, host.host):
                    return
                host = self._now(campaign, host.host)
            if host.step is HostStep.WORKING and not self._work(campaign, host):
                return
            self._take_back(campaign, host.host)
        except (RefusedError, UnreachableError) as error:
            self._step(campaign, host.host, HostStep.FAILED, reason=error.message)

    def _drain(self, campaign: int, host: str) -> bool:
        seen = self.gateway.observe()
        node = seen.estate.node(host) if seen.estate is not None else None
        ours = any(host in one.order.hosts for one in self.store.drains.open(self.lease.cluster))
        begun = self._now(campaign, host).step is HostStep.DRAINING
        if node is not None and node.paused and not (ours or begun):
            self._step(campaign, host, HostStep.SKIPPED, reason="somebody else has paused it")
            return False
        self._step(campaign, host, HostStep.DRAINING)
        order = Order(
            (host,),
            keep_reserve=self.rolling.keep_reserve,
            on_failure=OnFailure.RESUME,
            asked_by=self.rolling.asked_by,
        )
        report = drain(
            order,
            self.policy,
            self.gateway,
            self.store,
            self.clock,
            lease=self.lease,
            interrupted=self.interrupted,
            on_progress=self.on_progress,
            poll_s=self.poll_s,
        )
        if report.end is RunEnd.DONE:
            self._step(campaign, host, HostStep.WORKING)
            return True
        if report.end is RunEnd.CANCELLED:
            self._step(campaign, host, HostStep.WAITING, reason="asked to stop")
            return False
        why = "; ".join(f"{one.name}: {one.reason}" for one in report.left) or "it was not emptied"
        self._step(campaign, host, HostStep.FAILED, reason=why)
        return False

    def _work(self, campaign: int, host: CampaignHost) -> bool:
        """Run the commands that have not ended well yet, then wait until the host is healthy."""
        for number, command in enumerate(self.rolling.commands):
            if number < host.hook:
                continue
            if self.interrupted():
                return False
            words = [word.replace(HOST_WORD, host.host) for word in command]
            self.on_step(host.host, HostStep.WORKING.value, " ".join(words))
            if why := self.run_command(words, host.host, self.rolling.timeout_s):
                text = f"{command[0]}: {why}; the host stays paused"
                self._step(campaign, host.host, HostStep.FAILED, reason=text)
                return False
            self._step(campaign, host.host, HostStep.WORKING, hook=number + 1)
        until_s = self.clock.monotonic_s() + self.rolling.healthy_s
        while not self._is_healthy(host.host):
            if self.interrupted():
                return False
            if self.clock.monotonic_s() >= until_s:
                text = f"it was not healthy within {self.rolling.healthy_s:.0f} s"
                self._step(campaign, host.host, HostStep.FAILED, reason=text)
                return False
            self.clock.sleep(HEALTHY_POLL_S)
        return True

    def _is_healthy(self, host: str) -> bool:
        """Tell whether a host answers and is a member, paused as we left it, storage in order."""
        try:
            seen = self.gateway.observe()
        except UnreachableError:
            return False
        state = seen.cluster.host_by_name[host].state
        storage = seen.estate.storage if seen.estate is not None else None
        sound = storage is None or not (storage.direct and (storage.jobs or storage.unhealthy))
        return sound and state in (HostState.UP, HostState.PAUSED)

    def _take_back(self, campaign: int, host: str) -> None:
        self._step(campaign, host, HostStep.RESUMING)
        report = resume(
            (host,),
            self.policy,
            self.gateway,
            self.store,
            self.clock,
            lease=self.lease,
            restore=self.rolling.restore,
            interrupted=self.interrupted,
            on_progress=self.on_progress,
            poll_s=self.poll_s,
        )
        if host in report.paused:
            self._step(campaign, host, HostStep.FAILED, reason="it could not be resumed")
        else:
            away = f"{len(report.left)} things stay away" if report.left else ""
            self._step(campaign, host, HostStep.DONE, reason=away)

    def _now(self, campaign: int, host: str) -> CampaignHost:
        return next(one for one in self.store.campaigns.get(campaign).hosts if one.host == host)

    def _step(
        self, campaign: int, host: str, step: HostStep, *, hook: int = 0, reason: str = ""
    ) -> None:
        self.store.campaigns.step(
            self.lease, campaign, host, step, self.clock.now(), hook=hook, reason=reason
        )
        self.on_step(host, step.value, reason)
