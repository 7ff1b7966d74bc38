"""PowerShell remoting values: what a pipeline asks for, and what it answers.

psrpcore keeps the protocol's state. The one thing written out by hand here is a string on its
way to the client, because a reading of a host is one string of hundreds of kilobytes and the
general serialiser is ten times slower on it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from psrpcore.types import ErrorCategory, ErrorCategoryInfo, ErrorRecord, NETException

from balancer.gateway.simulator.winrm.commands import CommandFailed, Invocation

FRAGMENT_BYTES = 32 << 10  # what Windows sends: DefaultFragmentSize in PowerShell's source

_PIPELINE_OUTPUT = 0x00041004
_TO_CLIENT = 1
_BOM = b"\xef\xbb\xbf"  # Windows begins the XML of every message with it
_HEADER = struct.Struct(">QQBI")  # object id, fragment id, start 1 | end 2, length: MS-PSRP 2.2.4
_FRAGMENT_START = 1
_FRAGMENT_END = 2

# CLIXML spells these as _xHHHH_ per UTF-16 unit, and so must spell an underscore that a reader
# would take for the start of such a spelling (MS-PSRP 2.2.5.3.2).
_SPELT_OUT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\U00010000-\U0010ffff]|_(?=[xX])")
_BASES = ("System.Management.Automation.RuntimeException", "System.SystemException")


def output_fragments(pool: UUID, pipeline: UUID, object_id: int, text: str) -> Iterator[bytes]:
    """Yield the fragments of a PIPELINE_OUTPUT message that carries one string.

    Args:
        pool: The runspace pool's id.
        pipeline: The pipeline's id.
        object_id: Unique within the pool's lifetime and this direction.
        text: The string, of any length.
    """
    message = b"".join(
        (
            struct.pack("<iI", _TO_CLIENT, _PIPELINE_OUTPUT),
            pool.bytes_le,
            pipeline.bytes_le,
            _BOM,
            b"<S>",
            clixml_text(text).encode(),
            b"</S>",
        )
    )
    room = FRAGMENT_BYTES - _HEADER.size
    last = (len(message) - 1) // room
    for number in range(last + 1):
        chunk = message[number * room : (number + 1) * room]
        ends = (_FRAGMENT_START if number == 0 else 0) | (_FRAGMENT_END if number == last else 0)
        yield _HEADER.pack(object_id, number, ends, len(chunk)) + chunk


def clixml_text(text: str) -> str:
    """Escape a string as CLIXML character data."""
    # Three tests in C spare the usual document (ASCII JSON) the walk of the regular expression.
    if not (text.isascii() and text.isprintable()) or "_x" in text or "_X" in text:
        text = _SPELT_OUT.sub(_spell_out, text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _spell_out(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"_x{units[at : at + 4]}_" for at in range(0, len(units), 4))


def error_record(failure: CommandFailed) -> ErrorRecord:
    """Return the error record a client gets for a function's terminating error."""
    signed = failure.hresult - (1 << 32) if failure.hresult >= 1 << 31 else failure.hresult
    exception = NETException(Message=failure.message, HResult=signed)
    types = [f"System.Management.Automation.{failure.exception}", *_BASES]
    exception.PSObject.type_names = list(
        dict.fromkeys([*types, *exception.PSObject.type_names])  # in order, each once
    )
    return ErrorRecord(
        Exception=exception,
        CategoryInfo=ErrorCategoryInfo(
            Category=ErrorCategory(failure.category),
            Reason=failure.exception,
            TargetName=failure.target,
            TargetType="String" if failure.target else "",
        ),
        TargetObject=failure.target or None,
        FullyQualifiedErrorId=failure.fqid,
    )


def invocations(pipeline: Any) -> tuple[Invocation, ...]:
    """Return the commands of a decoded CREATE_PIPELINE message, with plain Python values."""
    return tuple(
        Invocation(
            str(command.command_text),
            bool(command.is_script),
            tuple(
                (None if name is None else str(name).removesuffix(":"), plain(value))
                for name, value in command.parameters
            ),
        )
        for command in pipeline.commands
    )


def plain(value: Any) -> Any:
    """Strip psrpcore's types from a parameter: what is left is what JSON knows."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)
