"""The configuration: which clusters there are, how to log in to them, where records are kept.

One YAML file, found at `--config`, `$BALANCER_CONFIG`, `./balancer.yaml` or
`/etc/balancer/balancer.yaml`. It holds no secret: a password is read from a file or from the
environment, so that the configuration may be shown and kept in version control.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from balancer.errors import InputError, Place
from balancer.policy.document import load_document
from balancer.policy.fields import Document, Duration, Flag, Positive, Text, Version1
from balancer.policy.tree import Places

ENVIRONMENT = "BALANCER_CONFIG"
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # where systemd puts what LoadCredential names
USUAL_PLACES = (Path("balancer.yaml"), Path("/etc/balancer/balancer.yaml"))
STORE_FILE = "balancer.sqlite"
STATE_DIRECTORY = "STATE_DIRECTORY"  # systemd's StateDirectory

Port = Annotated[Positive, Field(le=65535)]


class ConnectionPart(Document):
    """How to log in to the hosts of a cluster."""

    tls: Flag = Field(True, description="HTTPS (5986); false is HTTP (5985), sealed by the login.")
    port: Port | None = Field(None, description="Where it is not the usual one.")
    ca_file: Path | None = Field(None, description="PEM of the authority that signed the hosts.")
    auth: Literal["negotiate", "kerberos", "ntlm", "basic", "credssp"] = "negotiate"
    username: Text | None = Field(None, description="DOMAIN\\user; none takes a Kerberos ticket.")
    password_file: Path | None = Field(None, description="A file, or the name of a credential.")
    password_env: Text | None = Field(None, description="Name of an environment variable.")
    configuration: Text | None = Field(
        None, description="PowerShell session configuration, for a JEA endpoint."
    )
    connect_timeout: Duration = 10.0
    deadline: Annotated[
        Duration, Field(description="For all of one host's answer; then it is unknown.")
    ] = 45.0


class ClusterPart(Document):
    """One failover cluster, or one set of stand-alone hosts."""

    name: Text
    hosts: Annotated[
        list[Text],
        Field(min_length=1, description="Nodes to ask first; for stand-alone hosts all of them."),
    ]
    standalone: Flag = Field(False, description="Hosts without a failover cluster.")
    domain: Text | None = Field(None, description="Appended to node names to reach them.")
    addresses: dict[Text, Text] = Field(
        default_factory=dict, description="HOST: ADDRESS or ADDRESS:PORT, where DNS does not know."
    )
    policy: Path | None = Field(None, description="Policy file, relative to this file.")
    connection: ConnectionPart = ConnectionPart()


class ConfigDocument(Document):
    """The file as a whole."""

    version: Version1
    store: Path | None = Field(None, description="SQLite file with journal and history.")
    clusters: Annotated[list[ClusterPart], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was read, and the file it came from."""

    file: Path
    document: ConfigDocument
    places: Places

    @property
    def store(self) -> Path:
        """Return where journal and history are kept."""
        if self.document.store is not None:
            return self.beside(self.document.store)
        directory = os.environ.get(STATE_DIRECTORY)
        return Path(directory) / STORE_FILE if directory else self.beside(Path(STORE_FILE))

    def beside(self, path: Path) -> Path:
        """Return a path that was written relative to the configuration file."""
        return path if path.is_absolute() else self.file.parent / path

    def cluster(self, name: str | None) -> ClusterPart:
        """Return the cluster of that name, or the only one.

        Raises:
            InputError: There is no such cluster, or several and none was named.
        """
        known = {part.name.casefold(): part for part in self.document.clusters}
        names = ", ".join(part.name for part in self.document.clusters)
        if name is None:
            if len(known) > 1:
                raise InputError(
                    f"{self.file} has several clusters: {names}", remedy="say which: --cluster NAME"
                )
            return self.document.clusters[0]
        if name.casefold() not in known:
            raise InputError(
                f"{self.file} has no cluster {name!r}", remedy=f"the clusters are: {names}"
            )
        return known[name.casefold()]


def find_config(given: Path | None) -> Path:
    """Return the configuration file to use.

    Raises:
        InputError: There is none in the usual places.
    """
    if given is not None:
        return given
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    for place in USUAL_PLACES:
        if place.exists():
            return place
    usual = ", ".join(str(place) for place in USUAL_PLACES)
    raise InputError(
        f"no configuration found (looked at {usual})",
        remedy="give --config FILE, or --snapshot FILE to work on a snapshot",
    )


def load_config(given: Path | None = None) -> Config:
    """Read the configuration.

    Raises:
        InputError: There is none, or it is wrong; the message names file, line and key.
    """
    file = find_config(given)
    document, places = load_document(file, ConfigDocument, "configuration")
    seen: set[str] = set()
    for index, part in enumerate(document.clusters):
        if part.name.casefold() in seen:
            raise InputError(
                f"two clusters are named {part.name!r}",
                place=places.value(("clusters", str(index), "name")),
                remedy="names of clusters differ in more than case",
            )
        seen.add(part.name.casefold())
    return Config(file, document, places)


def read_password(config: Config, part: ConnectionPart) -> str | None:
    """Return the password for a connection, or None where none is configured.

    Raises:
        InputError: The file or variable it should come from is not there. The text never
            holds the secret.
    """
    if part.password_env is not None:
        password = os.environ.get(part.password_env)
        if password is None:
            raise InputError(
                f"the environment variable {part.password_env} is not set",
                place=Place(str(config.file), key="connection.password_env"),
                remedy="set it, or use password_file",
            )
        return password
    if part.password_file is None:
        return None
    file = _credential(config, part.password_file)
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"cannot read the password from {file}: {reason}",
            place=Place(str(config.file), key="connection.password_file"),
            remedy="the file holds the password and nothing else, readable by this user only",
        ) from None


def _credential(config: Config, path: Path) -> Path:
    """Return a bare name as a systemd credential where there is one, else a file."""
    directory = os.environ.get(CREDENTIALS)
    if directory and len(path.parts) == 1 and (Path(directory) / path).exists():
        return Path(directory) / path
    return config.beside(path)


def config_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of the configuration file."""
    return ConfigDocument.model_json_schema()
