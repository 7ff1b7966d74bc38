"""What a run tells while it goes on: one frozen picture a poll, with the news since the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState, Why

TRUSTED_PERCENT = 10  # below that, progress says too little about speed


class OnInterrupt(StrEnum):
    """What becomes of migrations in flight when the run is asked to stop."""

    FINISH = "finish"  # they end by themselves, within their own deadlines
    CANCEL = "cancel"


class NewsKind(StrEnum):
    """What a piece of news is about."""

    STARTED = "started"
    MOVED = "moved"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    RETRY = "retry"
    LOST = "lost"  # a reply: only looking again tells
    ADOPTED = "adopted"
    SET_ASIDE = "set_aside"
    SET_DOWN = "set_down"  # a drain or campaign that does not go on by itself
    SETTING_WRITTEN = "setting_written"
    SETTING_RESTORED = "setting_restored"
    SETTING_LEFT = "setting_left"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    NOTED = "noted"


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened; `subject` is a migration's id, a host, or the cluster."""

    kind: NewsKind
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """Where one migration stands. `expected_s` is its forecast; `elapsed_s` since it was asked."""

    migration: str
    vm: str
    name: str
    source: str
    target: str
    transport: Transport
    state: MigrationState
    percent: int
    queued: bool
    elapsed_s: float
    expected_s: float
    reason: str
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class SettingProgress:
    """Where one host setting stands: waiting, pending, written, restored or left."""

    host: str
    setting: str
    before: str
    during: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The whole run at one moment. `eta_s` is None until there is something to go by."""

    at: datetime
    elapsed_s: float
    total: int
    done: int
    failed: int  # failed, cancelled or skipped
    running: int
    waiting: int
    eta_s: float | None
    moves: tuple[MoveProgress, ...]
    settings: tuple[SettingProgress, ...]
    news: tuple[News, ...]


OnProgress = Callable[[Progress], None]


def only_news(at: datetime, news: tuple[News, ...]) -> Progress:
    """Return a picture in which nothing migrates, to carry news."""
    return Progress(
        at=at,
        elapsed_s=0.0,
        total=0,
        done=0,
        failed=0,
        running=0,
        waiting=0,
        eta_s=None,
        moves=(),
        settings=(),
        news=news,
    )


def silent(progress: Progress) -> None:
    """Take no notice."""
    del progress


def never() -> bool:
    """Tell that nobody asked to stop."""
    return False
