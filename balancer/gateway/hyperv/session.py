"""One persistent PowerShell session with one host: the only door to pypsrp.

Everything here answers to measured behaviour of pypsrp 0.9.1.

- Nothing in it is safe for two threads at once: whoever holds a session calls it alone.
- A Receive without an answer is repeated five times with growing pauses (294 s by default);
  ours is not, and the calling loop keeps the deadline.
- A session whose messages are sealed (HTTP with NTLM or Kerberos) does not survive its TCP
  connection: the client goes on sealing with the old key. A new HTTP session cures it, also in
  the middle of a running pipeline, whose output the host keeps until it is acknowledged.
- A pipeline that is not closed stays in memory at both ends for ever. One that could not be
  closed, because the connection broke, is closed at the next occasion.
- `with` hides the first error behind that of closing; it is not used.
- Its log lines carry parameters and passwords' tokens, and a traceback for each timeout.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import Any

import requests
from pypsrp.complex_objects import Command, PSInvocationState, RunspacePoolState
from pypsrp.exceptions import WinRMError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.serializer import TaggedValue
from pypsrp.shell import SignalCode
from pypsrp.wsman import NAMESPACES, WSMan, WSManAction

from balancer.clock import Clock
from balancer.errors import InternalError, UnreachableError
from balancer.gateway.hyperv.connection import Auth, Connection
from balancer.gateway.hyperv.failures import ShellLostError, translate
from balancer.gateway.port import ReplyLostError

for _library in ("pypsrp", "spnego", "urllib3"):
    logging.getLogger(_library).setLevel(logging.CRITICAL)

POLL_S_MAX = 5.0  # a call's deadline and a broken connection are noticed within this
RECONNECTS_MAX = 2  # while waiting for one command's output
CLEANUP_S = 2.0  # closing what is left over must not cost a sweep its time
# A shell we lost sight of ends itself, long before the host's own two hours and 30-shell quota.
IDLE_TIMEOUT_S = 900

Parameter = str | int | bool | list[str]


class CommandError(Exception):
    """The function itself ended in a terminating error on the host."""

    def __init__(self, fqid: str, message: str) -> None:
        super().__init__(message)
        self.fqid = fqid
        self.message = message

    def is_(self, fqid: str) -> bool:
        """Tell whether this is the error of that name; ids carry the command after a comma."""
        return self.fqid.split(",")[0] == fqid


class _Command(Command):
    """A pipeline's only command. pypsrp copies it in depth, twice for a call, to share no nodes.

    There is nobody to share with, and the copies are a sixth of all the work of a call.
    """

    def __deepcopy__(self, memo: object) -> _Command:
        return self


class _WSMan(WSMan):
    """WS-Management whose Receive gives up at once when nothing comes."""

    def receive(
        self,
        resource_uri: str,
        resource: Any,
        option_set: Any = None,
        selector_set: Any = None,
        timeout: int | None = None,
    ) -> Any:
        answer = self.invoke(
            WSManAction.RECEIVE,
            resource_uri,
            resource,
            option_set,
            selector_set,
            timeout,
            retries_on_read_timeout=0,
        )
        return answer.find("s:Body", namespaces=NAMESPACES)


class Session:
    """A runspace pool on a host, opened when needed. For one thread at a time."""

    def __init__(self, host: str, connection: Connection, clock: Clock) -> None:
        self._host = host
        self._connection = connection
        self._clock = clock
        self._wsman = _new_wsman(host, connection)
        self._pool: RunspacePool | None = None
        self._left_over: list[Callable[[], object]] = []
        self._proven_s: float | None = None
        self.opened = 0  # how often; whoever loads functions into the pool watches it

    @property
    def idle_s(self) -> float | None:
        """Seconds since the channel last worked, None if it is not known to."""
        if self._proven_s is None or self._pool is None:
            return None
        return self._clock.monotonic_s() - self._proven_s

    def open(self, end_s: float) -> None:
        """Open a pool if there is none.

        Args:
            end_s: Monotonic time when to give up.

        Raises:
            UnreachableError: The host cannot be reached or does not let us in.
        """
        if self._pool is not None:
            return
        self._patience(end_s)
        pool = RunspacePool(
            self._wsman,
            configuration_name=self._connection.configuration_name,
            idle_timeout=IDLE_TIMEOUT_S,
        )
        try:
            pool.open()
        except Exception as error:
            self._renew()
            self._left_over.append(lambda: _delete(pool))
            raise translate(error, self._host, self._connection, sent=False) from error
        self._pool = pool
        self.opened += 1
        self._prove()

    def call(self, function: str, parameters: Mapping[str, Parameter], end_s: float) -> str:
        """Call a function once and return its one string. `open` must have been called.

        Raises:
            CommandError: It ended in a terminating error.
            UnreachableError: It was certainly not carried out.
            ReplyLostError: It may have been.
        """
        pipeline = self._new_pipeline()
        version = pipeline.runspace_pool.protocol_version or ""
        pipeline.commands.append(_Command(function, version, is_script=False, use_local_scope=None))
        for name, value in parameters.items():
            pipeline.add_parameter(name, _typed(value))
        output = self._run(pipeline, end_s)
        if len(output) != 1 or not isinstance(output[0], str):
            raise ReplyLostError(
                f"{self._host} answered {function} with {len(output)} objects, not with one text",
                remedy="bring the HyperVBalancer module on the host to our version",
            )
        return output[0]

    def run_script(self, text: str, end_s: float) -> None:
        """Run script text, which only ordinary endpoints allow; for the module's source alone."""
        pipeline = self._new_pipeline()
        pipeline.add_script(text)
        self._run(pipeline, end_s)

    def drop(self) -> None:
        """Give the pool up; the next call opens another."""
        pool, self._pool = self._pool, None
        self._renew()
        if pool is not None:
            self._left_over.append(lambda: _delete(pool))

    def close(self) -> None:
        """Close everything, as far as the host lets us."""
        self.drop()
        self._clean_up()
        self._wsman.close()

    def _new_pipeline(self) -> PowerShell:
        if self._pool is None:
            raise InternalError(f"the session with {self._host} was used before it was opened")
        return PowerShell(self._pool)

    def _run(self, pipeline: PowerShell, end_s: float) -> list[Any]:
        self._patience(end_s)
        try:
            pipeline.begin_invoke()
        except Exception as error:
            failure = translate(error, self._host, self._connection, sent=True)
            self._lose(pipeline, failure)
            raise failure from error
        self._wait(pipeline, end_s)
        self._prove()
        self._finish(pipeline)
        if pipeline.state == PSInvocationState.COMPLETED:
            return list(pipeline.output)
        errors = pipeline.streams.error
        last = errors[-1] if errors else None
        raise CommandError(str(getattr(last, "fq_error", None) or ""), str(last or "no reason"))

    def _wait(self, pipeline: PowerShell, end_s: float) -> None:
        """Poll until the pipeline ends. Asking again for output repeats nothing."""
        reconnects = 0
        while pipeline.state == PSInvocationState.RUNNING:
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0:
                late = ReplyLostError(
                    f"{self._host} did not answer within {self._connection.deadline_s:g} s",
                    remedy="look at the load of the host and at its WinRM service",
                )
                self._lose(pipeline, late)
                raise late
            try:
                pipeline.poll_invoke(timeout=max(1, int(min(POLL_S_MAX, left_s))))
            except Exception as error:
                reconnects += 1
                broken = isinstance(error, requests.exceptions.RequestException)
                if broken and reconnects <= RECONNECTS_MAX:
                    self._renew()
                    continue
                failure = _as_lost(translate(error, self._host, self._connection, sent=True))
                self._lose(pipeline, failure)
                raise failure from error

    def _finish(self, pipeline: PowerShell) -> None:
        """Close a pipeline that has ended; the answer is there already, whatever happens now."""
        self._patience(self._clock.monotonic_s() + CLEANUP_S)
        try:
            pipeline.close()
        except Exception:  # noqa: BLE001 -- whatever pypsrp raises: it is tried again later
            self._renew()
            self._abandon(pipeline)
        else:
            self._clean_up()

    def _lose(self, pipeline: PowerShell, failure: UnreachableError | ReplyLostError) -> None:
        self._proven_s = None
        self._renew()
        if isinstance(failure, ShellLostError):
            self._pool = None
        else:
            self._abandon(pipeline)

    def _abandon(self, pipeline: PowerShell) -> None:
        """Forget a pipeline here, and remember to close it there."""
        pool = pipeline.runspace_pool
        pool.pipelines.pop(pipeline.id, None)
        self._left_over.append(
            lambda: pool.shell.signal(SignalCode.TERMINATE, command_id=pipeline.id)
        )

    def _clean_up(self) -> None:
        """Close what an earlier failure left open on the host; one failure ends the attempt."""
        left, self._left_over = self._left_over, []
        self._patience(self._clock.monotonic_s() + CLEANUP_S)
        for close in left:
            # Whatever else the host answers, there is nothing to close any more.
            with contextlib.suppress(WinRMError, ValueError):
                try:
                    close()
                except OSError:  # requests' own errors, and that the authorities' file is gone
                    self._renew()
                    break

    def _renew(self) -> None:
        """Start a new HTTP session under the pool; the next request logs in afresh."""
        transport = self._wsman.transport
        with contextlib.suppress(Exception):
            transport.close()
        transport.session = None
        transport.encryption = None

    def _prove(self) -> None:
        self._proven_s = self._clock.monotonic_s()

    def _patience(self, end_s: float) -> None:
        """Let no single read outlast the deadline."""
        left_s = max(1.0, end_s - self._clock.monotonic_s())
        transport: Any = self._wsman.transport
        transport.read_timeout = left_s
        self._wsman.operation_timeout = max(1, int(left_s) - 1)


def _new_wsman(host: str, connection: Connection) -> WSMan:
    options: dict[str, Any] = {
        "cert_validation": connection.trust,
        "connection_timeout": connection.connect_timeout_s,
    }
    if connection.auth in (Auth.NEGOTIATE, Auth.KERBEROS) and _is_address(connection.address):
        options["negotiate_hostname_override"] = host  # tickets are for names
    wsman = _WSMan(
        connection.address,
        port=connection.port,
        ssl=connection.tls,
        auth=connection.auth.value,
        username=connection.username,
        password=connection.password.reveal() if connection.password else None,
        no_proxy=True,
        reconnection_retries=0,
        **options,
    )
    transport: Any = wsman.transport
    build = transport._build_session  # noqa: SLF001 -- there is no other door to it

    def deaf() -> requests.Session:
        """Build a session that does not search the environment and .netrc for each request."""
        session: requests.Session = build()
        session.trust_env = False
        return session

    transport._build_session = deaf  # noqa: SLF001
    return wsman


def _typed(value: Parameter) -> Any:
    """Return a value that pypsrp serialises right: it calls every whole number 32 bits wide."""
    wide = isinstance(value, int) and not -(2**31) <= value < 2**31
    return TaggedValue("I64", value) if wide else value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _delete(pool: RunspacePool) -> None:
    """Close a pool's shell, whatever the client thinks of the pool's state."""
    pool.shell.opened = True
    pool.shell.close()
    pool.state = RunspacePoolState.CLOSED


def _as_lost(failure: UnreachableError | ReplyLostError) -> UnreachableError | ReplyLostError:
    """Whatever breaks while output is awaited, the command was sent."""
    if isinstance(failure, ReplyLostError):
        return failure
    return ReplyLostError(failure.message, remedy=failure.remedy)
