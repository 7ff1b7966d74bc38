"""WS-Management messages: requests taken apart, replies and faults put together.

Shapes as Windows Server sends them (MS-WSMV); only what a runspace pool needs.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from uuid import UUID, uuid4
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
_FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
_CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
POWERSHELL = "http://schemas.microsoft.com/powershell"

DEFAULT_TIMEOUT_S = 60.0  # MaxTimeoutms of a Windows host
MIN_ENVELOPE_BYTES = 8 << 10  # MS-WSMV: smaller ones are refused
MAX_ENVELOPE_BYTES = 500 << 10  # MaxEnvelopeSizekb of Windows Server 2012 and later
_HEADER_BYTES = 2 << 10  # of a reply, generously

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_TAGS = {"s": _SOAP, "a": _ADDRESSING, "w": _WSMAN, "rsp": SHELL}


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A WS-Management fault: code as Windows numbers it, SOAP subcode, text."""

    code: int
    subcode: str
    text: str
    sender: bool = True


TIMED_OUT = FaultKind(
    2150858793,
    "w:TimedOut",
    "The WS-Management service cannot complete the operation within the time specified in "
    "OperationTimeout.",
    sender=False,
)
UNKNOWN_SHELL = FaultKind(
    2150858843,
    "w:InvalidSelectors",
    "The request for the Windows Remote Shell with the given ShellId failed because the shell "
    "was not found on the server.",
)
UNKNOWN_COMMAND = FaultKind(
    2150858843,
    "w:InvalidSelectors",
    "The Windows Remote Shell received a request to perform an operation on a command "
    "identifier that does not exist.",
)
UNKNOWN_CONFIGURATION = FaultKind(
    2150859194,
    "w:InvalidSelectors",
    "The WS-Management service cannot find the session configuration that was asked for.",
)
TOO_MANY_SHELLS = FaultKind(
    2150859173,
    "w:QuotaLimit",
    "This user has opened as many shells as are allowed; close one or raise the quota.",
)
ABORTED = FaultKind(
    995,
    "w:InternalError",
    "The I/O operation has been aborted because of either a thread exit or an application request.",
    sender=False,
)
INVALID_MESSAGE = FaultKind(
    2150858817, "w:SchemaValidationError", "The SOAP message does not follow the schema."
)
UNSUPPORTED_ACTION = FaultKind(
    2150858778, "a:ActionNotSupported", "The action is not supported by the service."
)


class WsmanFault(Exception):  # noqa: N818 -- the protocol's own word
    """A request that is answered with a fault."""

    def __init__(self, kind: FaultKind) -> None:
        super().__init__(kind.text)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class WsmanRequest:
    """One request.

    Attributes:
        action: Last part of the action's URI: "Create", "Receive", ...
        resource: Resource URI.
        selectors: By name; a shell is picked by "ShellId".
    """

    action: str
    action_uri: str
    message_id: str
    resource: str
    selectors: dict[str, str]
    timeout_s: float
    budget_bytes: int
    body: ET.Element

    @property
    def shell_id(self) -> str:
        """The shell the request is about."""
        return self.selectors.get("ShellId", "").upper()

    def element(self, path: str) -> ET.Element:
        """Return an element of the body.

        Raises:
            WsmanFault: It is missing.
        """
        found = self.body.find(path, _TAGS | {"p": POWERSHELL})
        if found is None:
            raise WsmanFault(INVALID_MESSAGE)
        return found


def parse_request(data: bytes) -> WsmanRequest:
    """Take an envelope apart.

    Raises:
        WsmanFault: It is not one, or lacks what every request has.
    """
    # SOAP 1.2 forbids a document type, and its entities are what makes XML unsafe.
    if b"<!DOCTYPE" in data or len(data) > MAX_ENVELOPE_BYTES:
        raise WsmanFault(INVALID_MESSAGE)
    try:
        envelope = ET.fromstring(data)  # noqa: S314 -- no DTD, so no entities: see above
    except ET.ParseError:
        raise WsmanFault(INVALID_MESSAGE) from None
    body = envelope.find("s:Body", _TAGS)
    header = envelope.find("s:Header", _TAGS)
    if body is None or header is None:
        raise WsmanFault(INVALID_MESSAGE)
    action_uri = header.findtext("a:Action", "", _TAGS)
    message_id = header.findtext("a:MessageID", "", _TAGS)
    if not action_uri or not message_id:
        raise WsmanFault(INVALID_MESSAGE)
    size = header.findtext("w:MaxEnvelopeSize", "", _TAGS)
    envelope_bytes = int(size) if size.isdecimal() else MAX_ENVELOPE_BYTES
    return WsmanRequest(
        action=action_uri.rpartition("/")[2],
        action_uri=action_uri,
        message_id=message_id,
        resource=header.findtext("w:ResourceURI", "", _TAGS),
        selectors={
            selector.get("Name", ""): selector.text or ""
            for selector in header.iterfind("w:SelectorSet/w:Selector", _TAGS)
        },
        timeout_s=_seconds(header.findtext("w:OperationTimeout", "", _TAGS)),
        budget_bytes=max(MIN_ENVELOPE_BYTES, envelope_bytes) - _HEADER_BYTES,
        body=body,
    )


def decode(element: ET.Element) -> bytes:
    """Return the bytes an element holds as base64.

    Raises:
        WsmanFault: It does not.
    """
    try:
        return base64.b64decode(element.text or "", validate=True)
    except binascii.Error:
        raise WsmanFault(INVALID_MESSAGE) from None


def identifier(text: str | None) -> UUID | None:
    """Return a command id, or None when there is none.

    Raises:
        WsmanFault: It is no GUID.
    """
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise WsmanFault(INVALID_MESSAGE) from None


def reply(request: WsmanRequest, body: str) -> bytes:
    """Return the envelope that answers a request; `body` is XML with the prefixes below."""
    return _envelope(f"{request.action_uri}Response", request.message_id, body)


def fault(kind: FaultKind, machine: str, message_id: str = "") -> bytes:
    """Return a fault's envelope; it travels with HTTP status 500."""
    side = "s:Sender" if kind.sender else "s:Receiver"
    body = (
        f"<s:Fault><s:Code><s:Value>{side}</s:Value><s:Subcode><s:Value>{kind.subcode}</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{escape(kind.text)}</s:Text>'
        f'</s:Reason><s:Detail><f:WSManFault xmlns:f="{_FAULT}" Code="{kind.code}" '
        f"Machine={quoteattr(machine)}><f:Message>{escape(kind.text)}</f:Message>"
        "</f:WSManFault></s:Detail></s:Fault>"
    )
    return _envelope(f"{_WSMAN.removesuffix('.xsd')}/fault", message_id, body)


def created(url: str, resource: str, shell: str, shell_id: str) -> str:
    """Return the body of a Create response."""
    return (
        f"<x:ResourceCreated><a:Address>{escape(url)}</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{escape(resource)}</w:ResourceURI><w:SelectorSet>"
        f'<w:Selector Name="ShellId">{escape(shell_id)}</w:Selector></w:SelectorSet>'
        f"</a:ReferenceParameters></x:ResourceCreated>{shell}"
    )


def shell_element(shell_id: str, resource: str, owner: str, *, connected: bool) -> str:
    """Return the description of a shell."""
    state = "Connected" if connected else "Disconnected"
    return (
        f"<rsp:Shell><rsp:ShellId>{escape(shell_id)}</rsp:ShellId>"
        f"<rsp:ResourceUri>{escape(resource)}</rsp:ResourceUri>"
        f"<rsp:Owner>{escape(owner)}</rsp:Owner><rsp:ClientIP>127.0.0.1</rsp:ClientIP>"
        "<rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut>"
        "<rsp:InputStreams>stdin pr</rsp:InputStreams>"
        "<rsp:OutputStreams>stdout</rsp:OutputStreams>"
        f"<rsp:State>{state}</rsp:State><rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime>"
        "<rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
    )


def received(items: tuple[bytes, ...], command_id: UUID | None, *, done: bool) -> str:
    """Return the body of a Receive response."""
    attribute = "" if command_id is None else f' CommandId="{str(command_id).upper()}"'
    streams = "".join(
        f'<rsp:Stream Name="stdout"{attribute}>{base64.b64encode(item).decode()}</rsp:Stream>'
        for item in items
    )
    state = ""
    if command_id is not None:
        word = "Done" if done else "Running"
        state = f'<rsp:CommandState{attribute} State="{SHELL}/CommandState/{word}"/>'
    return f"<rsp:ReceiveResponse>{streams}{state}</rsp:ReceiveResponse>"


def enumerated(shells: str) -> str:
    """Return the body of an Enumerate response with every item in it."""
    return (
        f'<n:EnumerateResponse xmlns:n="{_ENUMERATION}"><n:EnumerationContext/>'
        f"<w:Items>{shells}</w:Items><w:EndOfSequence/></n:EnumerateResponse>"
    )


def config() -> str:
    """Return the service's configuration, as far as clients ask for it."""
    return (
        f'<cfg:Config xmlns:cfg="{_CONFIG}"><cfg:MaxEnvelopeSizekb>{MAX_ENVELOPE_BYTES >> 10}'
        f"</cfg:MaxEnvelopeSizekb><cfg:MaxTimeoutms>{int(DEFAULT_TIMEOUT_S * 1000)}"
        "</cfg:MaxTimeoutms></cfg:Config>"
    )


def _seconds(duration: str) -> float:
    match = _DURATION.fullmatch(duration)
    if match is None or not any(match.groups()):
        return DEFAULT_TIMEOUT_S
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    related = f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo>" if relates_to else ""
    return (
        f'<s:Envelope xml:lang="en-US" xmlns:s="{_SOAP}" xmlns:a="{_ADDRESSING}" '
        f'xmlns:x="{_TRANSFER}" xmlns:w="{_WSMAN}" xmlns:rsp="{SHELL}"><s:Header>'
        f"<a:Action>{escape(action)}</a:Action><a:MessageID>uuid:{str(uuid4()).upper()}"
        f"</a:MessageID><a:To>{_ADDRESSING}/role/anonymous</a:To>{related}</s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()
