"""Bytes and text of a document from a file or stdin, or an error that says what is wrong."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from balancer.errors import InputError, Place

GZIP_MAGIC = b"\x1f\x8b"
STDIN = "-"


def name_of(path: Path | str) -> str:
    """Return what messages call the file at `path`; `-` is the standard input."""
    return "<stdin>" if str(path) == STDIN else str(path)


def read_bytes(path: Path | str, max_bytes: int, what: str) -> bytes:
    """Return the content of `path` (`-` is stdin; gzip is unpacked by its first bytes).

    Args:
        path: The file.
        max_bytes: The most that is read, unpacked; a limit against accidents.
        what: What the document is, for messages: `policy`, `snapshot`.

    Raises:
        InputError: The file is missing, unreadable, not a file, damaged or too large.
    """
    file = name_of(path)
    try:
        if str(path) == STDIN:
            data = sys.stdin.buffer.read(max_bytes + 1)
        else:
            with Path(path).open("rb") as stream:
                data = stream.read(max_bytes + 1)
        if data.startswith(GZIP_MAGIC):
            data = _unpacked(data, max_bytes)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {what} file {file}", remedy="check the path, or give `-` to read stdin"
        ) from error
    except (EOFError, zlib.error) as error:
        raise InputError(
            f"cannot unpack the {what}: {error}",
            place=Place(file),
            remedy="the file is cut off or damaged: write it again",
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"cannot read the {what} file {file}: {why or error}",
            remedy="check that it is a file and that you may read it",
        ) from error
    if len(data) > max_bytes:
        raise InputError(
            f"the {what} is larger than {max_bytes // 2**20} MiB",
            place=Place(file),
            remedy=f"check that this is the {what} you mean",
        )
    return data


def _unpacked(packed: bytes, max_bytes: int) -> bytes:
    """Return a gzip stream unpacked, up to just over `max_bytes`."""
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    data = unpack.decompress(packed, max_bytes + 1)
    if not unpack.eof and len(data) <= max_bytes:
        raise EOFError("it ends in the middle of the packed data")
    return data


def text_of(document: str | bytes, file: str, what: str) -> str:
    """Return the text of a document's bytes: UTF-8, with or without a byte order mark.

    Raises:
        InputError: The bytes are not UTF-8; says where.
    """
    if isinstance(document, str):
        return document.removeprefix("\ufeff")
    try:
        return document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = document.count(b"\n", 0, error.start) + 1
        looks_utf16 = document.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise InputError(
            f"the {what} is not UTF-8 text (byte {error.start})"
            + (": it looks like UTF-16, which Windows PowerShell writes" if looks_utf16 else ""),
            place=Place(file, line),
            remedy="save it as UTF-8 (in Windows PowerShell: Out-File -Encoding utf8)",
        ) from error
