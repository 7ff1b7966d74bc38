"""What goes wrong below us, as the errors the gateway knows: one table for all of it.

Which of the two it is depends on one question only, whether our command can have reached the
host. `ChannelLostError` is the special case of "cannot have" where a fresh channel may help.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError, WSManFaultError
from spnego.exceptions import SpnegoError
from urllib3.exceptions import NewConnectionError

from balancer.errors import UnreachableError
from balancer.gateway.hyperv.connection import Connection
from balancer.gateway.port import ReplyLostError

ACCESS_DENIED = 5
SHELL_LOST = 2150858843
QUOTA = 2150859173
NO_SUCH_CONFIGURATION = 2150859194

_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND = 400, 403, 404


class ChannelLostError(UnreachableError):
    """The command was not carried out because its channel is gone; a new one may work."""


class ShellLostError(ChannelLostError):
    """Not only the connection is gone: the host has forgotten our shell and all in it."""


_FAULTS: dict[object, tuple[str, str]] = {
    ACCESS_DENIED: (
        "denies access to its PowerShell endpoint",
        "allow the account in the endpoint's permissions (Set-PSSessionConfiguration)",
    ),
    QUOTA: (
        "allows no more shells for this account",
        "close other sessions of the account, or raise MaxShellsPerUser in the WinRM service",
    ),
    NO_SUCH_CONFIGURATION: (
        "has no session configuration of the name we ask for",
        "register it there (Register-PSSessionConfiguration), or configure another name",
    ),
}

_HTTP: dict[int, tuple[str, str]] = {
    _FORBIDDEN: (
        "forbids the request",
        "it may refuse unencrypted messages: use TLS, or negotiate",
    ),
    _NOT_FOUND: (
        "answers, but not as WinRM",
        "check the port: WinRM is 5986 with TLS and 5985 without",
    ),
}


def translate(
    error: Exception, host: str, connection: Connection, *, sent: bool
) -> UnreachableError | ReplyLostError:
    """Return what a failure below means.

    Args:
        error: As it came from pypsrp, requests or the libraries under them.
        host: For the message.
        connection: For the message.
        sent: Whether the command was under way; False while only a channel is made.
    """
    kind, message, remedy = _describe(error, host, connection)
    if kind is None:
        kind = ReplyLostError if sent else UnreachableError
    return kind(message, remedy=remedy)


_Kind = type[UnreachableError] | type[ReplyLostError] | None  # None: it depends


_Described = tuple[_Kind, str, str]


def _describe(error: Exception, host: str, connection: Connection) -> _Described:
    described: _Described
    match error:
        case AuthenticationError():
            described = _describe_login(host, connection)
        case WSManFaultError():
            described = _describe_fault(error, host)
        case WinRMTransportError():
            described = _describe_http(error, host)
        case requests.exceptions.RequestException():
            described = _describe_network(error, host, connection)
        case ET.ParseError():
            text = f"{host} answers with something that is no WS-Management message"
            described = None, text, "check that no proxy or other service sits on its WinRM port"
        case ImportError():
            text = f"logging in to {host} by {connection.auth} needs a library: {error}"
            described = UnreachableError, text, "install pypsrp[credssp] or pypsrp[kerberos]"
        case _ if isinstance(error, SpnegoError) or _package(error) == "krb5":
            described = _describe_ticket(error, host)
        case _:
            text = f"{host} answers in a way that makes no sense ({type(error).__name__}: {error})"
            described = None, text, "look at the WinRM service and its event log on the host"
    return described


def _package(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]


def _describe_login(host: str, connection: Connection) -> _Described:
    who = connection.username or "the ticket"
    text = f"{host} refuses to log in {who} by {connection.auth}"
    return UnreachableError, text, "check user name, password and winrm/config/service/auth there"


def _describe_ticket(error: Exception, host: str) -> _Described:
    remedy = (
        "check the ticket (klist), the host's name and service principal (setspn -L), and the clock"
    )
    return UnreachableError, f"cannot get a Kerberos ticket for {host}: {error}", remedy


def _describe_fault(error: WSManFaultError, host: str) -> _Described:
    if error.code == SHELL_LOST:
        text = f"{host} has lost our shell: its WinRM service was restarted, or it was idle"
        return ShellLostError, text, "try again: a new shell is opened"
    if error.code in _FAULTS:
        what, remedy = _FAULTS[error.code]
        return UnreachableError, f"{host} {what}", remedy
    if error.code is None:
        what, remedy = _HTTP[_NOT_FOUND]
        return UnreachableError, f"{host} {what}", remedy
    text = f"{host} answers with WS-Management fault {error.code}: {error.reason or ''}"
    return None, text.rstrip(": "), f"look the code up with winrm helpmsg {error.code}"


def _describe_http(error: WinRMTransportError, host: str) -> _Described:
    if error.code == _BAD_REQUEST:
        # Messages sealed for a connection that is gone cannot be opened, so were not carried out.
        text = f"{host} cannot read our messages any more: the connection behind them is gone"
        return ChannelLostError, text, "try again: a new connection is made"
    if error.code in _HTTP:
        what, remedy = _HTTP[error.code]
        return UnreachableError, f"{host} {what}", remedy
    text = f"{host} answers with HTTP {error.code}"
    return None, text, "look at the WinRM service and its event log on the host"


def _describe_network(
    error: requests.exceptions.RequestException, host: str, connection: Connection
) -> _Described:
    where = f"{host} ({connection.address})"
    if isinstance(error, requests.exceptions.SSLError):
        text = f"{where} cannot be trusted over TLS: {_cause(error)}"
        return UnreachableError, text, "name the certificate authority's file; check name and port"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        text = f"{where} does not take connections within {connection.connect_timeout_s:g} s"
        return UnreachableError, text, "check that it is up, its address, and firewalls between"
    if isinstance(error, requests.exceptions.Timeout):
        text = f"{where} took our request and did not answer in time"
        return None, text, "look at the load of the host and at its WinRM service"
    if _never_connected(error):
        text = f"{where} cannot be connected to: {_cause(error)}"
        return UnreachableError, text, "check its name, that it is up, and that WinRM listens"
    text = f"the connection to {where} broke: {_cause(error)}"
    return None, text, "look at the network between, and whether the host restarted"


def _never_connected(error: BaseException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _cause(error: BaseException) -> str:
    """Return the innermost reason in a line; libraries wrap it many times over."""
    inner: object = error
    for _ in range(8):
        deeper = getattr(inner, "reason", None)
        arguments = getattr(inner, "args", ())
        nested = [one for one in (deeper, *arguments) if isinstance(one, BaseException)]
        if not nested:
            break
        inner = nested[0]
    return str(inner).strip() or type(inner).__name__
