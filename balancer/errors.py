"""Every error the program raises on purpose, and the exit code each one means.

An error says what was being done, what was found, what was expected and how to put it
right; the exit codes are the same for every command and are part of the public contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells a script; documented in docs/reference/exit-codes.md."""

    DONE = 0
    OUR_FAULT = 1
    BAD_INPUT = 2
    ANSWER_IS_NO = 3
    EXECUTED_IN_PART = 4
    CANNOT_REACH = 5
    HELD_BY_OTHER = 6
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a document something is: file, line and column (from 1), and the key path."""

    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""

    def __str__(self) -> str:
        position = [self.file]
        if self.line is not None:
            position.append(str(self.line))
            if self.column is not None:
                position.append(str(self.column))
        text = ":".join(position)
        return f"{text}: {self.key}" if self.key else text


class BalancerError(Exception):
    """Base of all deliberate errors. `remedy` is one sentence on what to do about it."""

    exit_code = ExitCode.OUR_FAULT

    def __init__(self, message: str, *, place: Place | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{where}{self.message}{remedy}"


class InputError(BalancerError):
    """A document, an option or a selector that we cannot accept."""

    exit_code = ExitCode.BAD_INPUT


class InputErrorGroup(InputError):  # noqa: N818 -- a group of errors, named as such
    """Several faults of one document, so that they can be mended in one go."""

    def __init__(self, errors: tuple[InputError, ...]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class RefusedError(BalancerError):
    """The answer is no: infeasible, a stated limit passed, or not safe now."""

    exit_code = ExitCode.ANSWER_IS_NO


class UnreachableError(BalancerError):
    """A host or cluster cannot be reached or does not let us log in."""

    exit_code = ExitCode.CANNOT_REACH


class HeldError(BalancerError):
    """Another executor holds the cluster."""

    exit_code = ExitCode.HELD_BY_OTHER


class InternalError(BalancerError):
    """Our own fault: an invariant did not hold. Nothing was done on the strength of it."""
