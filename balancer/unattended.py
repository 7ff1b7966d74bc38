"""What the configuration says about running unattended: when, with which hooks, how long kept."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from balancer.policy.fields import Count, Document, Duration, Text
from balancer.policy.span_entry import TimeZone

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]+")
_CRON_FIELDS = 5
MINUTE_S = 60.0


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) != _CRON_FIELDS or not all(_CRON_FIELD.fullmatch(field) for field in fields):
        raise ValueError(
            "expected minute, hour, day of month, month and day of week, "
            f"for example 30 22 * * mon-fri, not {text!r}"
        )
    return text


Cron = Annotated[
    str,
    AfterValidator(_cron),
    WithJsonSchema({"type": "string", "examples": ["30 22 * * mon-fri"]}),
]


class SchedulePart(Document):
    """When a cluster is read and when it is balanced."""

    every: Duration | None = Field(
        None, ge=MINUTE_S, description="Pause from one cycle's beginning to the next; or `cron`."
    )
    cron: Cron | None = Field(
        None, description="Instead: minute, hour, day, month, weekday (names, or 0-7: 0 is Sunday)."
    )
    timezone: TimeZone = Field("UTC", description="Whose wall clock `cron` means.")
    jitter: Duration = Field(
        0.0, description="Each cycle begins later by up to this, so that not all begin at once."
    )
    sample_every: Annotated[Duration, Field(ge=10)] = Field(
        60.0, description="Pause between two readings for the history."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.every is not None and self.cron is not None:
            raise ValueError("expected every or cron, not both")
        return self


class HooksPart(Document):
    """Commands around each run, started without a shell."""

    before_run: list[Text] = Field(
        default_factory=list, description="Command and arguments; a failure calls the run off."
    )
    after_run: list[Text] = Field(
        default_factory=list, description="Command and arguments; a failure is told, no more."
    )
    timeout: Duration = Field(300.0, description="Then the command and its children are killed.")


# Plans look back 28 days and windows 90; and nobody should lose the log by a slip of the pen.
LongTime = Annotated[Duration, Field(ge=90 * 86400.0)]


class RetentionPart(Document):
    """How long records of each kind are kept."""

    samples: Duration = Field(8 * 86400.0, description="Every reading; older ones become hourly.")
    hourly: Duration = Field(400 * 86400.0, description="Hourly means; older ones are deleted.")
    plans: Duration = Field(30 * 86400.0, description="Plans that were never carried out.")
    journal: LongTime = Field(
        400 * 86400.0,
        description="Runs with their plans, drains, campaigns, requests, times of migrations.",
    )
    audit: LongTime = Field(400 * 86400.0, description="The audit log.")


class AutoPart(Document):
    """How `mode: auto` gains trust, and loses it with the first failure."""

    first_run: Count = Field(
        1, description="Migrations of the first run, doubled by each success; 0 is no cap."
    )
