"""As much of HTTP/1.1 as WinRM clients speak: POST with a Content-Length, keep-alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

_LINE_BYTES = 64 << 10  # a Negotiate token with a Kerberos ticket fills tens of kilobytes
_HEADERS = 64
_BODY_BYTES = 1 << 20  # an envelope is at most 500 KiB, before it is sealed


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HttpProblem(Exception):  # noqa: N818 -- an answer to the client, not an error of ours
    """A request that is answered with an error status, after which the connection ends."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def read_request(file: BinaryIO) -> HttpRequest | None:
    """Read one request; None when the client has hung up between requests.

    Raises:
        HttpProblem: It is malformed, or larger than anything WinRM sends.
        OSError: The connection broke.
    """
    start = file.readline(_LINE_BYTES)
    if not start:
        return None
    words = start.decode("latin-1").split()
    if len(words) != 3 or words[2] != "HTTP/1.1":  # noqa: PLR2004 -- method, path, version
        raise HttpProblem(HTTPStatus.BAD_REQUEST)
    headers = _read_headers(file)
    if "transfer-encoding" in headers:
        raise HttpProblem(HTTPStatus.LENGTH_REQUIRED)
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise HttpProblem(HTTPStatus.BAD_REQUEST)
    if int(length) > _BODY_BYTES:
        raise HttpProblem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    body = file.read(int(length))
    if len(body) < int(length):
        return None
    return HttpRequest(words[0], words[1], headers, body)


def _read_headers(file: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_HEADERS):
        line = file.readline(_LINE_BYTES)
        if line in (b"\r\n", b"\n"):
            return headers
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not line.endswith(b"\n"):
            raise HttpProblem(HTTPStatus.BAD_REQUEST)
        headers[name.strip().lower()] = value.strip()
    raise HttpProblem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def response(
    status: HTTPStatus, body: bytes, content_type: str, headers: Sequence[tuple[str, str]] = ()
) -> bytes:
    """Return a whole response, to be written in one go."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    if body:
        # With a charset, or clients guess one by walking through the body.
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in headers]
    lines += ["Server: Microsoft-HTTPAPI/2.0", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
