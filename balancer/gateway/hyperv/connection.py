"""How one host is reached and logged in to, as a value."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from balancer.errors import InputError

JEA_CONFIGURATION = "HyperVBalancer"
ORDINARY_CONFIGURATION = "Microsoft.PowerShell"

OVERRUN_S = 12.0


class Secret:
    """Text that shows itself to nobody by accident: not in a log, a traceback or a report."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text; for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


class Auth(StrEnum):
    """How to log in. Negotiate takes Kerberos where it can and NTLM where it cannot."""

    NEGOTIATE = "negotiate"
    NTLM = "ntlm"
    KERBEROS = "kerberos"
    BASIC = "basic"
    CREDSSP = "credssp"


@dataclass(frozen=True, slots=True)
class Connection:
    """The options of a connection to one host.

    Attributes:
        address: Name or IP address to connect to; over TLS the certificate must bear it.
        port: By default 5986 with TLS, else 5985.
        tls: Without, messages are sealed by the authentication (not with `basic`).
        ca_file: Certificates to trust, as PEM; None is the system's store.
        username: None takes the Kerberos ticket that is there.
        configuration_name: The session configuration; `HyperVBalancer` is our JEA endpoint.
        connect_timeout_s: For the TCP connection and for a single short exchange.
        deadline_s: For a whole call, opening included.
    """

    address: str
    port: int | None = None
    tls: bool = True
    ca_file: Path | None = None
    auth: Auth = Auth.NEGOTIATE
    username: str | None = None
    password: Secret | None = None
    configuration_name: str = ORDINARY_CONFIGURATION
    connect_timeout_s: float = 10.0
    deadline_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what must never be tried.

        Raises:
            InputError: Basic authentication without TLS would send the password in the clear.
        """
        if self.auth is Auth.BASIC and not self.tls:
            raise InputError(
                f"{self.address}: basic authentication without TLS sends the password in the clear",
                remedy="use TLS, or negotiate, which seals its messages",
            )

    @property
    def trust(self) -> str | bool:
        """What to check server certificates by: a file of authorities; never nothing.

        Named even for the system's store, so that no environment variable replaces it.
        """
        if self.ca_file is not None:
            return str(self.ca_file)
        return ssl.get_default_verify_paths().cafile or True

    @property
    def watchdog_s(self) -> float:
        """How long after its beginning a call that has not come back is not waited for.

        More than the deadline, which the session itself keeps unless the host drips: the last
        poll and the cleaning up come after it.
        """
        return self.deadline_s + OVERRUN_S
