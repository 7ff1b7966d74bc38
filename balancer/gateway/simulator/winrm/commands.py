"""What a runspace can run: the caller's functions, and on an ordinary endpoint our module.

The two kinds differ as on Windows. An ordinary endpoint runs in full language mode and knows
our functions only after the module's text has been sent to that runspace pool. A JEA endpoint
is in no-language mode: it exports the functions and refuses any script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Handler: TypeAlias = Callable[[str, Mapping[str, object]], str]
EndpointKind: TypeAlias = Literal["ordinary", "jea"]

# System.Management.Automation.ErrorCategory
NOT_SPECIFIED = 0
INVALID_ARGUMENT = 5
NOT_IMPLEMENTED = 11
OBJECT_NOT_FOUND = 13
PARSER_ERROR = 17

RUNTIME_HRESULT = 0x80131501  # COR_E_SYSTEM, what PowerShell's own exceptions carry


class CommandFailed(Exception):  # noqa: N818 -- an outcome of the function, not an error of ours
    """A function ends with a terminating error, as a PowerShell error record carries it.

    Attributes:
        fqid: FullyQualifiedErrorId.
        category: ErrorCategory as a number.
        hresult: Of the exception, unsigned.
        message: For people.
        exception: Name of the .NET exception type, without its namespace.
        target: The record's target, as text.
    """

    def __init__(
        self,
        fqid: str,
        category: int,
        hresult: int,
        message: str,
        *,
        exception: str = "RuntimeException",
        target: str = "",
    ) -> None:
        super().__init__(message)
        self.fqid = fqid
        self.category = category
        self.hresult = hresult
        self.message = message
        self.exception = exception
        self.target = target


class UnknownCommandError(LookupError):
    """A handler raises this for a function it does not have."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command of a pipeline: a name or a script, and its arguments in order."""

    text: str
    is_script: bool
    arguments: tuple[tuple[str | None, Any], ...]  # (parameter, value); values off the wire


def sha256_accepts(sha256: str) -> Callable[[str], bool]:
    """Return a predicate for scripts that are, byte for byte in UTF-8, the module we know."""

    def accepts(text: str) -> bool:
        return hashlib.sha256(text.encode()).hexdigest() == sha256.lower()

    return accepts


class Runspace:
    """What one runspace pool can run; the loaded module lasts as long as the pool."""

    def __init__(
        self, handler: Handler, kind: EndpointKind, accepts_module: Callable[[str], bool]
    ) -> None:
        self._handler = handler
        self._no_language = kind == "jea"
        self._accepts_module = accepts_module
        self._loaded = self._no_language

    def run(self, invocations: Sequence[Invocation]) -> str | None:
        """Run a pipeline and return its one output string, or None when it has none.

        Raises:
            CommandFailed: The pipeline ends in a terminating error.
        """
        if self._no_language and any(invocation.is_script for invocation in invocations):
            raise _scripts_not_allowed()
        if len(invocations) != 1:
            raise CommandFailed(
                "PipelineNotSimulated",
                NOT_IMPLEMENTED,
                RUNTIME_HRESULT,
                f"This simulated host runs one command a pipeline, not {len(invocations)}.",
            )
        (invocation,) = invocations
        if invocation.is_script:
            self._load(invocation.text)
            return None
        return self._call(invocation)

    def _load(self, text: str) -> None:
        if not self._accepts_module(text):
            raise CommandFailed(
                "ScriptNotSimulated",
                NOT_IMPLEMENTED,
                RUNTIME_HRESULT,
                "This simulated host runs no scripts but the text of the balancer's own module.",
            )
        self._loaded = True

    def _call(self, invocation: Invocation) -> str:
        name = invocation.text
        if not self._loaded:
            raise _not_found(name)
        try:
            return self._handler(name, _by_name(invocation))
        except UnknownCommandError:
            raise _not_found(name) from None


def _by_name(invocation: Invocation) -> dict[str, object]:
    """Bind arguments by name; a parameter without a value is a switch that is on."""
    bound: dict[str, object] = {}
    for name, value in invocation.arguments:
        if name is None:
            raise CommandFailed(
                f"PositionalParameterNotFound,{invocation.text}",
                INVALID_ARGUMENT,
                RUNTIME_HRESULT,
                f"A positional parameter cannot be found that accepts argument '{value}'.",
                exception="ParameterBindingException",
            )
        bound[name] = True if value is None else value
    return bound


def _not_found(name: str) -> CommandFailed:
    """The record of Windows PowerShell 5.1 for a name that is no command."""
    return CommandFailed(
        "CommandNotFoundException",
        OBJECT_NOT_FOUND,
        RUNTIME_HRESULT,
        f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or "
        "operable program. Check the spelling of the name, or if a path was included, verify "
        "that the path is correct and try again.",
        exception="CommandNotFoundException",
        target=name,
    )


def _scripts_not_allowed() -> CommandFailed:
    """The record of a no-language runspace for script text (PowerShell source, Command.cs)."""
    return CommandFailed(
        "ScriptsNotAllowed",
        PARSER_ERROR,
        RUNTIME_HRESULT,
        "The syntax is not supported by this runspace. This can occur if the runspace is in "
        "no-language mode.",
        exception="ParseException",
    )
