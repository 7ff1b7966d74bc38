"""Walking a whole cluster, turn by turn: drain, run the administrator's commands, take back.

Where it stands is in the store before each step is taken, so whoever starts it again, after a
stop, a crash or the end of a window, goes on with the step at hand: a drain is carried on, a hook
command that had not ended well is run again, a host that is done stays done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from balancer.errors import InputError, RefusedError, UnreachableError
from balancer.execute.campaign import Rolling, needed_s
from balancer.execute.charge import Charge
from balancer.execute.context import Context
from balancer.execute.drain import drain, stretch_of
from balancer.execute.draining import passes_by_itself
from balancer.execute.resume import resume
from balancer.execute.working import Job, StartCommand, Work
from balancer.gateway.port import Observation
from balancer.model.drain import DrainReport, Order
from balancer.model.outcome import RunEnd
from balancer.planner import drain as plan_drain
from balancer.planner.turns import stay_clear_of, timetable
from balancer.policy.policy import Policy
from balancer.store.campaigns import Campaign, CampaignHost, CampaignState, HostStep

STAYS_PAUSED = "the host stays paused"
NEVER_FITS = "no window is that long"

# Told of each step of a host: its name, the step, and what there is to say.
OnStep = Callable[[str, HostStep, str], None]


def unheard(host: str, step: HostStep, text: str) -> None:
    """Take no notice of a step."""
    del host, step, text


@dataclass
class Walk:
    """One campaign being walked."""

    rolling: Rolling
    charge: Charge
    start_command: StartCommand
    on_step: OnStep = unheard
    _worked_s: float = 0.0  # the longest that commands and the wait after them have taken so far
    _context: Context = field(init=False)

    def __post_init__(self) -> None:
        self._context = self.charge.context()

    def run(self, campaign: int) -> Campaign:
        """Go on until all hosts are done, a rule or somebody stops it, or the window closes.

        A campaign that waits for its next window stays `going`.

        Raises:
            HeldError: Another executor has the cluster.
            StoreError: The store cannot be written.
        """
        self._enter(campaign, CampaignState.GOING)
        while hosts := self._next(campaign):
            if why := self._why_stop(campaign):
                return self._enter(campaign, CampaignState.STOPPED, why)
            hosts, why = self._that_may_begin(campaign, hosts)
            if why:
                return self._enter(campaign, CampaignState.GOING, why)
            self._turn(campaign, hosts)
        why = self._why_stop(campaign)
        return self._enter(campaign, CampaignState.STOPPED if why else CampaignState.DONE, why)

    def take_up(self, campaign: int) -> None:
        """Give hosts that failed another turn: drained again if need be, all commands run again."""
        for host in self.charge.store.campaigns.get(campaign).hosts:
            if host.step is HostStep.FAILED:
                self._step(campaign, host.host, HostStep.DRAINING, reason="another try")

    def _next(self, campaign: int) -> list[CampaignHost]:
        """Return the hosts whose turn it is: what has begun comes first."""
        now = self.charge.store.campaigns.get(campaign)
        left = [one for one in now.hosts if not one.step.is_final]
        return list(now.begun) or [one for one in left if one.batch == left[0].batch]

    def _why_stop(self, campaign: int) -> str:
        hosts = self.charge.store.campaigns.get(campaign).hosts
        failed = sum(one.step is HostStep.FAILED for one in hosts)
        if failed >= self.rolling.failures_max:
            return f"{failed} hosts failed"
        if self.charge.interrupted() and any(not one.step.is_final for one in hosts):
            return "asked to stop"
        return ""

    # May it begin

    def _that_may_begin(
        self, campaign: int, hosts: list[CampaignHost]
    ) -> tuple[list[CampaignHost], str]:
        """Return those of a turn that may begin now, or why none does.

        What has begun always goes on. Several hosts that cannot be emptied together, or not in
        time, have turns of their own.
        """
        if any(one.step is not HostStep.WAITING for one in hosts):
            return hosts, ""
        now, calendar = self.charge.clock.now(), self.charge.policy.calendar
        if not calendar.is_open(now):
            return [], self._opens("no window is open")
        why = ""
        for some in (hosts, hosts[:1]):
            why = self._too_long_or_tight([one.host for one in some], campaign)
            if not why:
                return some, ""
        return [], why

    def _too_long_or_tight(self, hosts: Sequence[str], campaign: int) -> str:
        """Return why a turn is not to begin now; one host alone is only held against the clock."""
        calendar = self.charge.policy.calendar
        alone = len(hosts) == 1
        if alone and not (calendar.windows or calendar.blackouts):
            return ""
        try:
            seen = self.charge.gateway.observe()
            policy = self._policy(campaign, hosts)
            found = plan_drain(
                seen.cluster,
                policy,
                hosts,
                now=self.charge.clock.now(),
                keep_reserve=self.rolling.keep_reserve or not alone,
            )
        except (InputError, RefusedError, UnreachableError) as error:
            return "" if alone else error.message  # its own turn says what is the matter
        if found.stuck and not alone:
            return "they cannot be emptied together"
        return self._too_long(hosts, found.plan.makespan_s)

    def _too_long(self, hosts: Sequence[str], drain_s: float) -> str:
        charge, now = self.charge, self.charge.clock.now()
        stretch = stretch_of(charge.store.history, charge.lease.cluster, now)
        work_s = self._worked_s or self.rolling.expected_work_s
        seconds = needed_s(self.rolling, drain_s, stretch, work_s)
        (when,) = timetable([seconds], charge.policy.calendar, now)
        named = ", ".join(hosts)
        if when is None:
            return f"{named} may take {seconds / 60:.0f} min, and {NEVER_FITS}"
        if when[0] <= now:
            return ""
        return self._opens(f"{named} may take {seconds / 60:.0f} min and would not be back in time")

    def _opens(self, why: str) -> str:
        now, calendar = self.charge.clock.now(), self.charge.policy.calendar
        closes = calendar.closes(now)
        opens = calendar.next_opening(closes) if closes is not None else None
        when = f"; the next window opens at {opens:%Y-%m-%d %H:%M} UTC" if opens else ""
        return why + when

    # One turn

    def _turn(self, campaign: int, hosts: list[CampaignHost]) -> None:
        """Take hosts from where they stand to their end, or as far as they get."""
        leaving = [one.host for one in hosts if one.step in (HostStep.WAITING, HostStep.DRAINING)]
        if leaving:
            try:
                self._drain(campaign, leaving)
            except (InputError, RefusedError, UnreachableError) as error:
                for host in leaving:
                    if self._now(campaign, host).step in (HostStep.WAITING, HostStep.DRAINING):
                        self._step(campaign, host, HostStep.FAILED, reason=error.message)
        self._work(campaign, [one.host for one in hosts])

    def _policy(self, campaign: int, hosts: Sequence[str]) -> Policy:
        if self.rolling.restore:
            return self.charge.policy
        left = self.charge.store.campaigns.get(campaign).hosts
        later = {one.host for one in left if one.step is HostStep.WAITING} - set(hosts)
        return stay_clear_of(self.charge.policy, later)

    def _drain(self, campaign: int, hosts: Sequence[str]) -> None:
        seen = self.charge.gateway.observe()
        hosts = [host for host in hosts if self._may_be_emptied(campaign, host, seen)]
        if not hosts:
            return
        policy = self._policy(campaign, hosts)
        for host in hosts:
            self._step(campaign, host, HostStep.DRAINING)
        report = drain(
            Order(
                tuple(hosts), keep_reserve=self.rolling.keep_reserve, asked_by=self.rolling.asked_by
            ),
            replace(self.charge, policy=policy),
        )
        for host in hosts:
            self._drained(campaign, host, report)

    def _may_be_emptied(self, campaign: int, host: str, seen: Observation) -> bool:
        """Pass a host over that somebody else has paused, or that something cannot leave."""
        step = self._now(campaign, host).step
        node = seen.estate.node(host) if seen.estate is not None else None
        drains, cluster = self.charge.store.drains, self.charge.lease.cluster
        ours = any(host in one.order.hosts for one in drains.open(cluster))
        if ours or step is HostStep.DRAINING:
            return True
        if node is not None and node.paused:
            self._step(campaign, host, HostStep.SKIPPED, reason="somebody else has paused it")
            return False
        found = plan_drain(seen.cluster, self.charge.policy, [host], now=self.charge.clock.now())
        stays = [one for one in found.stuck if one.immovable and not passes_by_itself(found, one)]
        if stays:
            why = "; ".join(f"{one.name}: {one.reason}; {one.remedy}" for one in stays)
            self._step(campaign, host, HostStep.FAILED, reason=f"not begun: {why}")
        return not stays

    def _drained(self, campaign: int, host: str, report: DrainReport) -> None:
        """Go on with a host that is empty, and give one back that is not."""
        left = [one for one in report.left if one.host == host]
        if not left and (report.end is RunEnd.DONE or host in report.paused):
            self._step(campaign, host, HostStep.WORKING)
            return
        cancelled = report.end is RunEnd.CANCELLED
        _, kept = self._give_back(host, restore=self.rolling.restore and not cancelled)
        why = "; ".join(f"{one.name}: {one.reason}" for one in left) or "it was not emptied"
        step = HostStep.FAILED
        if cancelled:  # one that stays paused has begun: to wait would mean that others paused it
            step, why = (HostStep.DRAINING if kept else HostStep.WAITING), "asked to stop"
        self._step(campaign, host, step, reason=f"{why}; {kept}" if kept else why)

    # Commands, and the way back

    def _work(self, campaign: int, hosts: Sequence[str]) -> None:
        """Run what has not ended well yet on each host, side by side, and take each back."""
        steps = {host: self._now(campaign, host) for host in hosts}
        foreman = _Foreman(self, campaign)
        for host, now in steps.items():
            if now.step is HostStep.RESUMING:
                foreman.ready(host)
        variables = {
            "BALANCER_CLUSTER": self.charge.lease.cluster,
            "BALANCER_CAMPAIGN": str(campaign),
        }
        rolling = self.rolling
        work = Work(
            commands=rolling.commands,
            timeout_s=rolling.timeout_s,
            healthy_s=rolling.healthy_s,
            variables=variables,
            gateway=self.charge.gateway,
            clock=self.charge.clock,
            start=self.start_command,
            foreman=foreman,
        )
        work.run(Job(host, now.hook) for host, now in steps.items() if now.step is HostStep.WORKING)
        self._worked_s = max(self._worked_s, foreman.longest_s)

    def take_back(self, campaign: int, host: str) -> None:
        """Let VMs land on a host again, and bring back what it held if that is wanted."""
        self._step(campaign, host, HostStep.RESUMING)
        report, kept = self._give_back(host, restore=self.rolling.restore)
        if report is None or kept:
            self._step(campaign, host, HostStep.FAILED, reason=kept)
        elif report.end is not RunEnd.CANCELLED:  # then the rest returns when the campaign goes on
            away = f"{len(report.left)} things stay away" if report.left else ""
            self._step(campaign, host, HostStep.DONE, reason=away)

    def _give_back(self, host: str, *, restore: bool) -> tuple[DrainReport | None, str]:
        """Resume a host; return what became of it, and why it is not resumed."""
        try:
            report = resume((host,), self.charge, restore=restore)
        except (InputError, RefusedError, UnreachableError) as error:
            return None, f"not taken back: {error.message}"
        return report, "it could not be resumed" if host in report.paused else ""

    # The record

    def _enter(self, campaign: int, state: CampaignState, why: str = "") -> Campaign:
        self.renew()
        charge, campaigns = self.charge, self.charge.store.campaigns
        campaigns.enter(charge.lease, campaign, state, charge.clock.now(), why)
        return campaigns.get(campaign)

    def _now(self, campaign: int, host: str) -> CampaignHost:
        hosts = self.charge.store.campaigns.get(campaign).hosts
        return next(one for one in hosts if one.host == host)

    def _step(self, campaign: int, host: str, step: HostStep, *, reason: str = "") -> None:
        self.write(campaign, host, step, reason=reason)
        self.on_step(host, step, reason)

    def write(
        self, campaign: int, host: str, step: HostStep, *, hook: int = 0, reason: str = ""
    ) -> None:
        """Write down where a host stands."""
        self.renew()
        charge, now = self.charge, self.charge.clock.now()
        charge.store.campaigns.step(
            charge.lease, campaign, host, step, now, hook=hook, reason=reason
        )

    def renew(self) -> None:
        """Renew the lease if it is due.

        Raises:
            LeaseLostError: A newer executor has the cluster.
        """
        self._context.renew()


class _Foreman:
    """Has the hosts of one turn worked on, for a walk."""

    def __init__(self, walk: Walk, campaign: int) -> None:
        self._walk, self._campaign = walk, campaign
        self._began_s = walk.charge.clock.monotonic_s()
        self.longest_s = 0.0

    def began(self, host: str, words: Sequence[str]) -> None:
        self._walk.on_step(host, HostStep.WORKING, " ".join(words))

    def ended(self, host: str, hook: int) -> None:
        self._walk.write(self._campaign, host, HostStep.WORKING, hook=hook)

    def failed(self, host: str, hook: int, why: str) -> None:
        text = f"{why}; {STAYS_PAUSED}"
        self._walk.write(self._campaign, host, HostStep.FAILED, hook=hook, reason=text)
        self._walk.on_step(host, HostStep.FAILED, text)

    def ready(self, host: str) -> None:
        self.longest_s = self._walk.charge.clock.monotonic_s() - self._began_s
        self._walk.take_back(self._campaign, host)

    def stopping(self) -> bool:
        self._walk.renew()
        return self._walk.charge.interrupted()
