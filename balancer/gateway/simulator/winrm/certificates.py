"""The simulated cluster's own certificate authority.

Made afresh at every start: its key never leaves the memory of the process, so nothing that is
signed by it can outlive the simulation. Profiles follow RFC 5280, strictly enough for the
default verification flags of Python 3.13 (subject and authority key identifiers, key usage).
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from balancer.clock import Clock, SystemClock
from balancer.errors import InputError

VALID_FOR = timedelta(days=30)
# Clocks of two machines, or of a machine and its container, differ by minutes at times.
BACKDATED_BY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What a TLS server shows and knows.

    Attributes:
        certificate_der: The certificate; its hash is the channel binding (RFC 5929 section 4.1).
        context: Ready for `wrap_socket(..., server_side=True)`.
    """

    certificate_der: bytes
    context: ssl.SSLContext = field(repr=False)


class Authority:
    """Signs server certificates; one elliptic-curve key for all servers keeps starting cheap."""

    def __init__(self, ca_file: Path, clock: Clock | None = None) -> None:
        """Make a new authority and write its certificate for clients to trust.

        Args:
            ca_file: Where the certificate goes, as PEM.
            clock: Gives the time the certificates are valid from; the machine's when left out.

        Raises:
            InputError: The file cannot be written.
        """
        self._now: datetime = (clock or SystemClock()).now()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign_self()
        self.ca_file = ca_file
        try:
            ca_file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        except OSError as error:
            raise InputError(
                f"cannot write the certificate authority's file {ca_file}: {error.strerror}",
                remedy="name a file in a directory that exists and is writable",
            ) from error

    def issue(self, names: Sequence[str], addresses: Sequence[str]) -> ServerIdentity:
        """Sign a certificate for one server.

        Args:
            names: DNS names; the first is the common name.
            addresses: IP addresses, as subject alternative names of their own kind.
        """
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = self._builder(_common_name(names[0]), self._server_key.public_key())
        certificate = (
            builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return ServerIdentity(
            certificate.public_bytes(serialization.Encoding.DER),
            _server_context(certificate, self._server_key),
        )

    def _sign_self(self) -> x509.Certificate:
        builder = self._builder(_common_name(_AUTHORITY_NAME), self._key.public_key())
        return (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_common_name(_AUTHORITY_NAME))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - BACKDATED_BY)
            .not_valid_after(self._now + VALID_FOR)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(issuer_key, critical=False)
        )


_AUTHORITY_NAME = "Simulated cluster CA"


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _server_context(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # Python's ssl reads keys only from files: one that only we may read, gone at once.
    handle, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(name)
    finally:
        Path(name).unlink()
    return context
