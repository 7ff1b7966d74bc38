"""The log: one JSON object a line to stderr for machines, coloured words on a terminal.

Under systemd stderr is the journal, which takes the level from a `<N>` before each line, so that
`journalctl -p warning` works; the line itself is JSON. Every line carries the ids of the cycle,
plan and migration it belongs to: events have them, and other lines get them from `ids`, which
follows the flow of control. What libraries log goes the same way, from warnings upwards.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import IO, Any

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.typing import EventDict, Processor, WrappedLogger

from balancer.clock import Clock
from balancer.service.events import Event, Weight
from balancer.service.redact import Secrets

JOURNAL_STREAM = "JOURNAL_STREAM"  # device:inode of the journal, where systemd connected stderr

LEVELS = {
    Weight.DETAIL: logging.DEBUG,
    Weight.INFO: logging.INFO,
    Weight.WARNING: logging.WARNING,
    Weight.ERROR: logging.ERROR,
}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # of syslog

# At DEBUG the first three write whole messages, scripts and tokens; a lost connection, which we
# report ourselves, is a traceback at ERROR to them. The others talk of every job and step.
QUIET = {
    "pypsrp": logging.CRITICAL,
    "spnego": logging.CRITICAL,
    "urllib3": logging.CRITICAL,
    "requests": logging.CRITICAL,
    "apprise": logging.CRITICAL,
    "apscheduler": logging.WARNING,
    "alembic": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    # Of a lost server they tell with a traceback; the crew tells of it in a line.
    "procrastinate": logging.CRITICAL,
    "psycopg": logging.CRITICAL,
    "asyncio": logging.CRITICAL,
}


def set_up(
    clock: Clock,
    *,
    level: str = "info",
    stream: IO[str] | None = None,
    secrets: Secrets | None = None,
) -> None:
    """Send all that is logged from here on to `stream`, by default stderr.

    Args:
        clock: For the time of lines that are no events.
        level: The least level to write: debug, info, warning or error.
        stream: A terminal gets words and colours, anything else JSON.
        secrets: What must not be written, besides what looks like a secret.
    """
    stream = sys.stderr if stream is None else stream
    secrets = Secrets() if secrets is None else secrets
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _stamp(clock),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(stream, shared, secrets))
    root = logging.getLogger()
    root.handlers = [handler]
    set_level(level)
    logging.raiseExceptions = False  # a closed stderr must not end in a traceback, on stderr
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Write what is at least this important: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())


def ids(**values: str) -> AbstractContextManager[None]:
    """Put these ids (cluster, cycle, plan, migration) on every line logged within the block."""
    return bound_contextvars(**values)


def log_event(event: Event) -> None:
    """Write an event down; the log's listener."""
    level = LEVELS[event.weight]
    fields: dict[str, object] = {**event.data}
    named = {
        "cluster": event.cluster,
        "cycle": event.cycle,
        "plan": event.plan,
        "migration": event.migration,
        "subject": event.subject,
        "text": event.text,
    }
    fields |= {name: value for name, value in named.items() if value}
    fields["at"] = _written(event.at)
    structlog.get_logger("balancer").log(level, event.kind.value, **fields)


def _stamp(clock: Clock) -> Processor:
    def stamp(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        del logger, method
        fields.setdefault("at", _written(clock.now()))
        return fields

    return stamp


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _formatter(
    stream: IO[str], shared: list[Processor], secrets: Secrets
) -> structlog.stdlib.ProcessorFormatter:
    """Return what turns a line into text: both our lines and those of libraries."""
    terminal = stream.isatty()
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if terminal:
        # Plain, for the same reason as below.
        console = structlog.dev.ConsoleRenderer(
            timestamp_key="at", exception_formatter=structlog.dev.plain_traceback
        )
        last += [_cleaned(secrets, _visible), console]
    else:
        # Without local variables: those of a login hold the password.
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last += [
            structlog.processors.ExceptionRenderer(transformer),
            _cleaned(secrets, str),
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    kind = _JournalFormatter if is_journal(stream) else structlog.stdlib.ProcessorFormatter
    return kind(foreign_pre_chain=shared, processors=last)


class _JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Puts syslog's priority before each line, where the journal looks for it."""

    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelname.lower(), 6)
        return f"<{priority}>{super().format(record)}"


def is_journal(stream: IO[str]) -> bool:
    """Tell whether a stream leads to systemd's journal."""
    named = os.environ.get(JOURNAL_STREAM, "")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _cleaned(secrets: Secrets, shown: Callable[[str], str]) -> Processor:
    """Return the processor that takes out secrets; `exc_info` is the renderer's business."""

    def clean(logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        del logger, method
        out: dict[str, object] = {}
        for name, value in fields.items():
            kept = value if name == "exc_info" else secrets.clean(value, name)
            out[name] = shown(kept) if isinstance(kept, str) else kept
        return out

    return clean


_FIRST = ("at", "level", "event", "text", "cluster", "cycle", "plan", "migration", "subject")


def _in_order(logger: WrappedLogger, method: str, fields: EventDict) -> MutableMapping[str, Any]:
    """Put what a reader looks for first, and the rest by name."""
    del logger, method
    rest = sorted(name for name in fields if name not in _FIRST)
    return {name: fields[name] for name in (*_FIRST, *rest) if name in fields}


def _visible(text: str) -> str:
    """Show what would steer a terminal instead of sending it: names come from hosts."""
    return "".join(
        each if each.isprintable() or each == "\n" else f"\\x{ord(each):02x}" for each in text
    )
