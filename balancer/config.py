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
from sqlalchemy.engine import URL

from balancer.errors import InputError, Place
from balancer.formats.json_schema import schema_of
from balancer.policy.document import load_document
from balancer.policy.fields import Document, Duration, Flag, Positive, Text, Version1
from balancer.policy.tree import Places
from balancer.store.address import Address, holds_password, where
from balancer.unattended import AutoPart, HooksPart, RetentionPart, SchedulePart

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
    auth: Literal["negotiate", "kerberos", "ntlm", "basic", "credssp"] = Field(
        "negotiate", description="How to log in; negotiate takes Kerberos where it can, else NTLM."
    )
    username: Text | None = Field(None, description="DOMAIN\\user; none takes a Kerberos ticket.")
    password_file: Path | None = Field(None, description="A file, or the name of a credential.")
    password_env: Text | None = Field(None, description="Name of an environment variable.")
    configuration: Text | None = Field(
        None, description="PowerShell session configuration, for a JEA endpoint."
    )
    connect_timeout: Duration = Field(10.0, description="For the connection to a host alone.")
    deadline: Annotated[
        Duration, Field(description="For all of one host's answer; then it is unknown.")
    ] = 45.0


class ClusterPart(Document):
    """One failover cluster, or one set of stand-alone hosts."""

    name: Text = Field(
        description="What commands, reports and metrics call it; case alone is no difference."
    )
    hosts: Annotated[
        list[Text],
        Field(min_length=1, description="Nodes to ask first; for stand-alone hosts all of them."),
    ]
    standalone: Flag = Field(False, description="Hosts without a failover cluster.")
    domain: Text | None = Field(None, description="Appended to node names to reach them.")
    addresses: dict[Text, Text] = Field(
        default_factory=dict, description="HOST: ADDRESS or ADDRESS:PORT, where DNS does not know."
    )
    policy: Path | None = Field(
        None, description="Policy file; without one every default of the policy holds."
    )
    connection: ConnectionPart = Field(ConnectionPart(), description="How to log in to its hosts.")
    schedule: SchedulePart = Field(SchedulePart(), description="When it is read and balanced.")
    hooks: HooksPart = Field(HooksPart(), description="Commands around each run.")


class NotifyPart(Document):
    """Whom to tell, by one Apprise address; it holds a secret, so it is read from elsewhere."""

    url_file: Path | None = Field(None, description="A file, or the name of a credential.")
    url_env: Text | None = Field(None, description="Name of an environment variable.")
    at_least: Literal["info", "warning", "error"] = Field(
        "warning", description="How much an event must matter to be told."
    )
    every: Annotated[Duration, Field(description="The least pause between two messages.")] = 300.0
    clusters: list[Text] = Field(default_factory=list, description="Only these; none is all.")


class WorkerPart(Document):
    """How `balancer worker` behaves; it shares a store in PostgreSQL with `balancer run`."""

    concurrency: Annotated[
        Positive, Field(le=256, description="Clusters that one worker looks after at a time.")
    ] = 8
    health: Text | None = Field(
        "127.0.0.1:9735", description="ADDRESS:PORT of its /healthz, /readyz and /metrics."
    )


class ServicePart(Document):
    """How `balancer run` behaves."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="What the log leaves out: all that matters less."
    )
    health: Text | None = Field(
        "127.0.0.1:9733", description="ADDRESS:PORT of /healthz, /readyz and /metrics, or `none`."
    )
    notify: list[NotifyPart] = Field(default_factory=list, description="Whom to tell of what.")
    start_delay: Duration = Field(
        30.0, description="No cycle begins sooner after the start; reading begins at once."
    )
    stop: Literal["finish", "cancel"] = Field(
        "finish", description="What becomes of migrations in flight when the service is stopped."
    )
    stop_within: Duration = Field(
        900.0, description="After so long it stops anyway; the next start takes over what moves."
    )
    auto: AutoPart = Field(AutoPart(), description="How `mode: auto` gains trust.")
    worker: WorkerPart = Field(WorkerPart(), description="How workers share the clusters.")
    retention: RetentionPart = Field(RetentionPart(), description="How long records are kept.")


class ConfigDocument(Document):
    """The file as a whole."""

    version: Version1 = Field(description="Version of this vocabulary; always 1.")
    store: Text | None = Field(
        None,
        description="SQLite file with journal and history, or postgresql://USER@HOST/DATABASE.",
    )
    store_password_file: Path | None = Field(
        None, description="A file, or the name of a credential: the database role's password."
    )
    store_password_env: Text | None = Field(None, description="Name of an environment variable.")
    clusters: Annotated[list[ClusterPart], Field(min_length=1, description="What is looked after.")]
    service: ServicePart = Field(ServicePart(), description="How the service behaves as a whole.")


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was read, and the file it came from."""

    file: Path
    document: ConfigDocument
    places: Places

    @property
    def store(self) -> Address:
        """Return where journal and history are kept; a URL comes with its password.

        Raises:
            InputError: It is no URL, holds a password itself, or its password is not to be had.
        """
        text = self.document.store
        if text is not None:
            return self._database(text) if "://" in text else self.beside(Path(text))
        directory = os.environ.get(STATE_DIRECTORY)
        return Path(directory) / STORE_FILE if directory else self.beside(Path(STORE_FILE))

    def _database(self, text: str) -> URL:
        url = where(text)
        if holds_password(url):
            raise InputError(
                "the store's URL holds a password",
                place=self.places.value(("store",)),
                remedy="leave it out there; give store_password_file or store_password_env",
            )
        password = read_store_password(self)
        return url if password is None else url.set(password=password)

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
                place=places.value(("clusters", index, "name")),
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
    return _secret(config, "password", ("connection", part.password_file, part.password_env))


def read_store_password(config: Config) -> str | None:
    """Return the password of the database's role, or None where libpq has its own ways.

    Raises:
        InputError: The file or variable it should come from is not there. The text never
            holds the secret.
    """
    given = config.document
    return _secret(
        config, "store_password", ("", given.store_password_file, given.store_password_env)
    )


def read_address(config: Config, part: NotifyPart) -> str | None:
    """Return the Apprise address of a notification, or None where none is configured.

    Raises:
        InputError: The file or variable it should come from is not there. The text never
            holds the secret.
    """
    return _secret(config, "url", ("service.notify", part.url_file, part.url_env))


def _secret(config: Config, what: str, source: tuple[str, Path | None, str | None]) -> str | None:
    """Return the secret `what` of a part of the configuration from its file or variable."""
    part, path, variable = source
    if variable is not None:
        secret = os.environ.get(variable)
        if secret is None:
            raise InputError(
                f"the environment variable {variable} is not set",
                place=Place(str(config.file), key=f"{part}.{what}_env".lstrip(".")),
                remedy=f"set it, or use {what}_file",
            )
        return secret
    if path is None:
        return None
    file = _credential(config, path)
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"cannot read the {what} from {file}: {reason}",
            place=Place(str(config.file), key=f"{part}.{what}_file".lstrip(".")),
            remedy=f"the file holds the {what} and nothing else, readable by this user only",
        ) from None


def _credential(config: Config, path: Path) -> Path:
    """Return a bare name as a credential where there is one, else a file.

    Our unit loads a whole directory, which systemd marks by a prefix; commands that are not
    started by systemd find the same directory beside the configuration.
    """
    if len(path.parts) == 1:
        directory = os.environ.get(CREDENTIALS)
        places = [Path(directory) / path, Path(directory) / f"balancer_{path}"] if directory else []
        for place in (*places, config.beside(Path("credentials") / path)):
            if _is_there(place):
                return place
    return config.beside(path)


def _is_there(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # in a directory that we may not look into
        return False


def config_schema() -> Mapping[str, Any]:
    """Return the JSON Schema of the configuration file."""
    return schema_of(ConfigDocument, "config")
