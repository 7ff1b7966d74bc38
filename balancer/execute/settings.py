"""Settings of hosts and cluster: written for a run, owed back afterwards, whatever happens.

The debt is written down before the setting is, and only two things cancel it: reading that the
old value is back, or that somebody else has set a third one, which is theirs to keep. A debt that
cannot be paid now (the host is away, or busy) stays in the journal and is tried at every start.
Nothing is concluded while a request whose reply was lost may still lie at the host: first it must
have taken note of a newer number of ours, which turns that request away.

A setting that cannot be written does not end the run. Transport decides how fast a migration is,
not whether it is legal: the moves of that host go on by what is set, with their forecasts made
anew, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from balancer.errors import UnreachableError
from balancer.execute import knobs
from balancer.execute.context import Context
from balancer.execute.progress import NewsKind, SettingProgress
from balancer.gateway.port import MoveRefusedError, ReplyLostError, SettingAnswer
from balancer.model.plan import SettingChange
from balancer.store.journal import Change
from balancer.store.records import SettingRecord, SettingState

# A host that is busy with somebody's migrations is asked again this often, and for so long; then
# its moves go on by what is set, which costs speed only.
ASK_AGAIN_S = 10.0
WRITE_PATIENCE_S = 300.0

_ACT_ERRORS = (MoveRefusedError, ReplyLostError, UnreachableError)


@dataclass(slots=True)
class HostSetting:
    """One setting in this run: a host's transport, or the cluster's built-in balancer.

    Attributes:
        record: The journal's entry, once the intent is written.
        state: None before that and when nothing had to be written.
        settled: Moves of the host need not wait for it any longer.
        doubt: The number of a request to write it whose reply was lost.
        through: The host that is asked to take note of a newer number; `change.host` where empty.
    """

    change: SettingChange
    record: SettingRecord | None = None
    state: SettingState | None = None
    settled: bool = False
    reason: str = ""
    first_s: float | None = None
    again_s: float = 0.0
    doubt: int | None = None
    through: str = ""

    @property
    def in_force(self) -> bool:
        """Tell whether the plan's value may still be counted on."""
        return not self.settled or self.state in (SettingState.WRITTEN, SettingState.RESTORED)

    @property
    def is_owed(self) -> bool:
        """Tell whether the host may hold our value and is owed its old one."""
        return self.state in (SettingState.PENDING, SettingState.WRITTEN)

    def progress(self) -> SettingProgress:
        """Return where it stands, for whoever watches."""
        change = self.change
        state = self.state.value if self.state else "left" if self.settled else "waiting"
        return SettingProgress(
            change.host, change.setting, change.before, change.during, state, self.reason
        )


def write(setting: HostSetting, run: int, context: Context) -> None:
    """Try to bring the host to the plan's value; call it only while nothing moves there."""
    now_s = context.now_s
    setting.first_s = now_s if setting.first_s is None else setting.first_s
    setting.again_s = now_s + ASK_AGAIN_S
    last_try = now_s - setting.first_s >= WRITE_PATIENCE_S
    change = setting.change
    values = (change.before, change.during)
    try:
        present = _present(setting, context)
        if _needs_no_writing(setting, present, context):
            return
        if setting.record is None:
            _intend(setting, run, context)
        setting.doubt = context.lease.fence
        answer = context.act(
            change.host,
            lambda fence: knobs.write(context.gateway, change.host, change.setting, values, fence),
        )
    except _ACT_ERRORS as error:
        context.note_failed(change.host)
        if last_try:
            # Pending stays pending: if it was written after all, it is owed back.
            setting.settled = True
            _say_left(setting, context, error.message)
        return
    setting.doubt = None
    _written(setting, answer, context, last_try=last_try)


def _present(setting: HostSetting, context: Context) -> str:
    """Return what the host is set to, once no lost request of ours can change that any more.

    Raises:
        UnreachableError: It does not say, or has not taken note of our newer number.
    """
    change, doubt = setting.change, setting.doubt
    host = setting.through or change.host
    if doubt is not None and context.turned_away_since_s(host, doubt) is None:
        raise UnreachableError(
            f"the reply of {host} was lost, and it may still be written",
            remedy="see whether the host answers: `balancer check`",
        )
    return knobs.read(context.gateway, change.host, change.setting)


def _needs_no_writing(setting: HostSetting, present: str, context: Context) -> bool:
    """Conclude what a reading before writing shows; true when that settles it."""
    announced, change = setting.state is SettingState.PENDING, setting.change
    if present == change.during:
        if announced:  # an earlier request whose reply was lost
            _now_written(setting, context)
        else:
            _leave(setting, context, f"it was {present} already: nothing to write or restore")
        return True
    if present != change.before:
        _leave(setting, context, "somebody else changed it since it was planned")
        return True
    return False


def _written(
    setting: HostSetting, answer: SettingAnswer, context: Context, *, last_try: bool
) -> None:
    match answer:
        case SettingAnswer.WRITTEN:
            _now_written(setting, context)
        case SettingAnswer.BUSY if not last_try:
            setting.reason = "migrations of others run there"
        case SettingAnswer.BUSY:
            _leave(setting, context, "migrations of others kept running there")
        case SettingAnswer.DIFFERS:
            _leave(setting, context, "somebody else changed it since it was planned")
        case SettingAnswer.MANAGED:
            _leave(setting, context, "Network ATC manages it")


def restore(setting: HostSetting, context: Context) -> None:
    """Try to give the host its old value back; call it only while nothing of ours moves there."""
    if setting.record is None:
        return
    setting.again_s = context.now_s + ASK_AGAIN_S
    state = pay_back(setting.record, setting.state or SettingState.PENDING, context)
    if state is not None:
        setting.state = state


def pay_back(record: SettingRecord, state: SettingState, context: Context) -> SettingState | None:
    """Restore one setting if the host still holds our value; return its end, None to try later."""
    values = (record.ours, record.before)
    name = f"{record.setting} of {record.host}"
    try:
        answer = context.act(
            record.host,
            lambda fence: knobs.write(context.gateway, record.host, record.setting, values, fence),
        )
    except _ACT_ERRORS:
        return None
    match answer:
        case SettingAnswer.WRITTEN:
            after, kind, text = (
                SettingState.RESTORED,
                NewsKind.SETTING_RESTORED,
                f"{name} is {record.before} again",
            )
        case SettingAnswer.DIFFERS:
            after, kind, text = (
                SettingState.LEFT,
                NewsKind.SETTING_LEFT,
                f"{name} is left alone: somebody else has changed it meanwhile",
            )
        case SettingAnswer.MANAGED:
            after, kind, text = (
                SettingState.LEFT,
                NewsKind.SETTING_LEFT,
                f"{name} is left alone: Network ATC manages it now",
            )
        case SettingAnswer.BUSY:
            return None
    change = Change(state.value, after.value, context.now, text)
    context.store.journal.setting(context.lease, record.run, record.id, change)
    context.tell(kind, record.host, text, note=True)
    return after


def _intend(setting: HostSetting, run: int, context: Context) -> None:
    change, now = setting.change, context.now
    record = context.store.journal.intend_setting(
        context.lease, run, change.host, change.setting, (change.before, change.during), now
    )
    setting.state = SettingState.PENDING
    setting.record = SettingRecord(
        id=record,
        run=run,
        cluster=context.lease.cluster,
        host=change.host,
        setting=change.setting,
        before=change.before,
        ours=change.during,
        state=SettingState.PENDING,
        since=now,
        reason="",
    )


def _enter(setting: HostSetting, after: SettingState, why: str, context: Context) -> None:
    if setting.record is not None and setting.state is not None:
        change = Change(setting.state.value, after.value, context.now, why)
        context.store.journal.setting(context.lease, setting.record.run, setting.record.id, change)
    setting.state, setting.reason = after, why


def _leave(setting: HostSetting, context: Context, why: str) -> None:
    """Give up writing: moves go on by what is set."""
    _enter(setting, SettingState.LEFT, why, context)
    setting.settled = True
    _say_left(setting, context, why)


def _now_written(setting: HostSetting, context: Context) -> None:
    change = setting.change
    text = f"{change.setting} of {change.host}: {change.before} -> {change.during} for this run"
    _enter(setting, SettingState.WRITTEN, text, context)
    setting.settled = True
    context.tell(NewsKind.SETTING_WRITTEN, change.host, text, note=True)


def _say_left(setting: HostSetting, context: Context, why: str) -> None:
    setting.reason = why
    text = f"{setting.change.setting} of {setting.change.host} was not written: {why}"
    context.tell(NewsKind.SETTING_LEFT, setting.change.host, text, note=True)


def owed_text(record: SettingRecord) -> str:
    """Say that a setting could not be restored yet."""
    return (
        f"{record.setting} of {record.host} still may be {record.ours} instead of {record.before}: "
        "it is restored at the next start"
    )
