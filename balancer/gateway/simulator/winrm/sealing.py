"""Message encryption on plain HTTP: MIME parts with a sealed envelope (MS-WSMV 2.2.9.1)."""

from __future__ import annotations

import re
import struct
from typing import Any

PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
CONTENT_TYPE = f'multipart/encrypted;protocol="{PROTOCOL}";boundary="Encrypted Boundary"'

_BOUNDARY = b"--Encrypted Boundary"
_PAYLOAD_MARK = b"\tContent-Type: application/octet-stream\r\n"
_LENGTH = re.compile(rb"OriginalContent:[^\r\n]*;Length=(\d+)")
_SIGNATURE_SIZE = struct.Struct("<I")


def is_sealed(content_type: str) -> bool:
    """Return whether a body of this type is a sealed message."""
    return content_type.lower().startswith("multipart/encrypted")


def seal(context: Any, message: bytes) -> bytes:
    """Return the body that carries a message; its type is `CONTENT_TYPE`.

    Args:
        context: A completed pyspnego context.
        message: The envelope.
    """
    sealed = context.wrap_winrm(message)
    length = len(message) + sealed.padding_length
    head = (
        f"--Encrypted Boundary\r\n\tContent-Type: {PROTOCOL}\r\n"
        "\tOriginalContent: type=application/soap+xml;charset=UTF-8;"
        f"Length={length}\r\n--Encrypted Boundary\r\n"
    ).encode()
    size = _SIGNATURE_SIZE.pack(len(sealed.header))
    return b"".join((head, _PAYLOAD_MARK, size, sealed.header, sealed.data, _BOUNDARY, b"--\r\n"))


def unseal(context: Any, body: bytes) -> bytes:
    """Return the message a body carries.

    Args:
        context: A completed pyspnego context.
        body: As received.

    Raises:
        ValueError: It is not sealed in the expected form.
        SpnegoError: It was sealed with another key, or out of order.
    """
    head, mark, rest = body.partition(_PAYLOAD_MARK)
    length = _LENGTH.search(head)
    end = rest.rfind(_BOUNDARY)  # the last one: sealed bytes may contain anything
    if not mark or length is None or end < _SIGNATURE_SIZE.size:
        raise ValueError("not a sealed WinRM message")
    (signature_bytes,) = _SIGNATURE_SIZE.unpack_from(rest)
    start = _SIGNATURE_SIZE.size + signature_bytes
    signature = rest[_SIGNATURE_SIZE.size : start]
    message: bytes = context.unwrap_winrm(signature, rest[start:end])
    if len(message) != int(length[1]):
        raise ValueError("the sealed message is not as long as announced")
    return message
