"""Authentication of one connection: Basic inside TLS, and Negotiate (NTLM) anywhere.

Negotiate proves the identity of the TCP connection, not of a request (RFC 4559 leaves it so,
and WinRM relies on it): its state lives as long as the connection. Inside TLS the proof must
be bound to our certificate (RFC 5929): one bound to another, or without any word on binding, is
refused. A client that says in so many bytes that it binds to nothing (sixteen zeros, MS-NLMP
2.2.2.1) is let through: pyspnego's acceptor decides that, and has no stricter setting.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from balancer.gateway.simulator.winrm.accounts import Accounts

# What pyspnego lets through when a token is not what it should be.
_BAD_TOKEN = (SpnegoError, ValueError, LookupError, TypeError, AttributeError, struct.error)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of looking at a request's Authorization header.

    Attributes:
        user: Who it is; None means HTTP 401.
        challenges: Values of WWW-Authenticate headers to send.
    """

    user: str | None
    challenges: tuple[str, ...] = ()


class ConnectionAuth:
    """The state of one connection. Used by the connection's thread only."""

    def __init__(self, accounts: Accounts, certificate_der: bytes | None) -> None:
        """Start unauthenticated.

        Args:
            accounts: Who may log in.
            certificate_der: The server's own, when the connection is inside TLS.
        """
        self._accounts = accounts
        self._inside_tls = certificate_der is not None
        self._bindings = None if certificate_der is None else _bindings(certificate_der)
        self._negotiating: Any = None
        self._user: str | None = None
        self.context: Any = None  # seals messages once Negotiate is through

    @property
    def challenges(self) -> tuple[str, ...]:
        """What a client may try."""
        return ("Negotiate", 'Basic realm="WSMAN"') if self._inside_tls else ("Negotiate",)

    def check(self, authorization: str | None) -> Verdict:
        """Look at a request.

        Args:
            authorization: The header's value, if there is one.
        """
        if authorization is None:
            return self._refused if self._user is None else Verdict(self._user)
        scheme, _, value = authorization.partition(" ")
        try:
            token = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            return self._refused
        if scheme.lower() == "basic" and self._inside_tls:
            return self._basic(token)
        if scheme.lower() == "negotiate" and token:
            return self._negotiate(token)
        return self._refused

    @property
    def _refused(self) -> Verdict:
        return Verdict(None, self.challenges)

    def _basic(self, token: bytes) -> Verdict:
        name, _, password = token.partition(b":")
        user = self._accounts.verify(name, password)
        return self._refused if user is None else Verdict(user)

    def _negotiate(self, token: bytes) -> Verdict:
        if self._negotiating is None:
            self._user = self.context = None  # a new proof replaces an old one, even if it fails
            self._negotiating = spnego.server(protocol="negotiate", channel_bindings=self._bindings)
        try:
            answer = self._negotiating.step(token)
        except _BAD_TOKEN:
            self._negotiating = None
            return self._refused
        challenge = (f"Negotiate {base64.b64encode(answer).decode()}",) if answer else ()
        if not self._negotiating.complete:
            return Verdict(None, challenge or self.challenges)
        context, self._negotiating = self._negotiating, None
        user = self._accounts.admit(str(context.client_principal))
        if user is None:
            return self._refused
        self._user, self.context = user, context
        return Verdict(user, challenge)


def _bindings(certificate_der: bytes) -> GssChannelBindings:
    """The token of type tls-server-end-point; our certificates are signed with SHA-256."""
    digest = hashlib.sha256(certificate_der).digest()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest)
