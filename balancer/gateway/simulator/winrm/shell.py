"""One shell: a runspace pool and its pipelines behind one lock.

psrpcore decides what is legal and what to say; this module feeds it, runs the commands in
threads of their own, and lets Receive requests wait for the outcome.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import psrpcore
from psrpcore.types import (
    PipelineState,
    PSInvocationState,
    RunspacePoolState,
)

from balancer.gateway.simulator.winrm.commands import (
    NOT_SPECIFIED,
    RUNTIME_HRESULT,
    CommandFailed,
    Invocation,
    Runspace,
)
from balancer.gateway.simulator.winrm.outbox import Batch, Outbox
from balancer.gateway.simulator.winrm.psrp import (
    FRAGMENT_BYTES,
    error_record,
    invocations,
    output_fragments,
)
from balancer.gateway.simulator.winrm.wsman import (
    ABORTED,
    INVALID_MESSAGE,
    TIMED_OUT,
    UNKNOWN_COMMAND,
    WsmanFault,
)

# psrpcore numbers its own messages from 1; ours stay out of their way.
_FIRST_OUTPUT_ID = 1 << 32
# What psrpcore lets through when a fragment or its XML is not what it should be.
_BAD_MESSAGE = (
    psrpcore.PSRPCoreError,
    ValueError,
    LookupError,
    AttributeError,
    struct.error,
    ET.ParseError,
)


@dataclass(eq=False)
class _Pipeline:
    state: psrpcore.ServerPipeline
    function: str = ""  # what it runs; empty for a script
    outbox: Outbox = field(default_factory=Outbox)
    terminated: bool = False

    def is_running(self) -> bool:
        return self.state.state in (PSInvocationState.NotStarted, PSInvocationState.Running)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Output for one Receive reply.

    Attributes:
        function: Which function's output it is, if a function's.
        done: The pipeline is over and this is the last of it.
        acknowledge: To be called once the reply has been written.
    """

    items: tuple[bytes, ...]
    function: str
    done: bool
    acknowledge: Callable[[], None]


class Shell:
    """A runspace pool on the server's side. Safe from any thread."""

    def __init__(
        self, shell_id: str, owner: str, runspace: Runspace, hold: Callable[[], object]
    ) -> None:
        """Make an empty shell.

        Args:
            shell_id: As the client named it.
            owner: The user who opened it.
            runspace: Runs the commands.
            hold: Called before and after a command runs; blocks while the host is frozen.
        """
        self.id = shell_id
        self.owner = owner
        self._runspace = runspace
        self._hold = hold
        self._changed = threading.Condition()
        self._pool = psrpcore.ServerRunspacePool()
        self._pool_outbox = Outbox()
        self._pipelines: dict[UUID, _Pipeline] = {}
        self._next_output_id = _FIRST_OUTPUT_ID
        self._closed = False
        self._slots = threading.Semaphore(1)
        self.connected = True

    def open(self, creation: bytes) -> None:
        """Take the session capability and the pool's init message.

        Raises:
            WsmanFault: It is not what opens a pool.
        """
        with self._changed:
            self._feed(creation, None)
            if self._pool.state is not RunspacePoolState.Opened:
                raise WsmanFault(INVALID_MESSAGE)
            self._slots = threading.Semaphore(max(1, self._pool.max_runspaces))

    def command(self, command_id: UUID, fragment: bytes) -> None:
        """Create a pipeline from its first fragment; it starts when all of it has come."""
        with self._changed:
            self._pipelines[command_id] = _Pipeline(psrpcore.ServerPipeline(self._pool, command_id))
            try:
                self._feed(fragment, command_id)
            except WsmanFault:
                self._forget(command_id)
                raise

    def send(self, command_id: UUID | None, data: bytes) -> None:
        """Take more fragments, of a pipeline or of the pool itself."""
        with self._changed:
            if command_id is not None:
                self._find(command_id)
            self._feed(data, command_id)

    def receive(
        self, command_id: UUID | None, message_id: str, timeout_s: float, budget_bytes: int
    ) -> Delivery:
        """Wait for output.

        Args:
            command_id: Whose output; None for the pool's own messages.
            message_id: Of the request: the same one gets the same answer again.
            timeout_s: The client's operation timeout.
            budget_bytes: Room for base64 in the reply.

        Raises:
            WsmanFault: Nothing came in time, or there is no such pipeline (any more).
        """
        with self._changed:
            pipeline = None if command_id is None else self._find(command_id)
            outbox = self._pool_outbox if pipeline is None else pipeline.outbox
            turn = outbox.new_turn()
            self._changed.notify_all()
            batch = outbox.repeat(message_id)
            if batch is None:
                self._changed.wait_for(lambda: self._has_news(pipeline, outbox, turn), timeout_s)
                if self._closed or (pipeline is not None and pipeline.terminated):
                    raise WsmanFault(ABORTED)
                over = pipeline is not None and not pipeline.is_running()
                if not outbox.is_turn(turn) or not (outbox or over):
                    raise WsmanFault(TIMED_OUT)
                batch = outbox.peek(message_id, budget_bytes)
            return self._delivery(pipeline, outbox, batch)

    def stop(self, command_id: UUID) -> None:
        """Stop a pipeline, as Ctrl+C does; one that is over is left alone."""
        with self._changed:
            pipeline = self._find(command_id)
            if pipeline.is_running():
                pipeline.state.state = PSInvocationState.Running  # its start may not have come yet
                pipeline.state.stop()
                self._flush()

    def terminate(self, command_id: UUID) -> None:
        """Forget a pipeline; the client has closed it."""
        with self._changed:
            self._find(command_id).terminated = True
            self._forget(command_id)
            self._changed.notify_all()

    def close(self) -> None:
        """End the shell; whoever waits in it gets a fault."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def pipeline_count(self) -> int:
        """Return how many pipelines the client has not closed yet."""
        with self._changed:
            return len(self._pipelines)

    def _has_news(self, pipeline: _Pipeline | None, outbox: Outbox, turn: int) -> bool:
        return (
            bool(outbox)
            or self._closed
            or not outbox.is_turn(turn)
            or (pipeline is not None and (pipeline.terminated or not pipeline.is_running()))
        )

    def _delivery(self, pipeline: _Pipeline | None, outbox: Outbox, batch: Batch) -> Delivery:
        def acknowledge() -> None:
            with self._changed:
                outbox.acknowledge(batch)

        over = pipeline is not None and not pipeline.is_running() and outbox.ends_with(batch)
        function = "" if pipeline is None else pipeline.function
        return Delivery(batch.items, function, over, acknowledge)

    def _find(self, command_id: UUID) -> _Pipeline:
        pipeline = self._pipelines.get(command_id)
        if pipeline is None:
            raise WsmanFault(UNKNOWN_COMMAND)
        return pipeline

    def _forget(self, command_id: UUID) -> None:
        del self._pipelines[command_id]
        self._pool.pipeline_table.pop(command_id, None)

    def _feed(self, data: bytes, command_id: UUID | None) -> None:
        payload = psrpcore.PSRPPayload(data, psrpcore.StreamType.default, command_id)
        self._pool.receive_data(payload)
        while (event := self._next_event()) is not None:
            self._react(event)
        self._flush()

    def _next_event(self) -> Any:
        try:
            return self._pool.next_event()
        except _BAD_MESSAGE as error:
            raise WsmanFault(INVALID_MESSAGE) from error

    def _react(self, event: Any) -> None:
        if isinstance(event, psrpcore.CreatePipelineEvent):
            pipeline = self._find(event.pipeline_id)
            # Not start(): that tells the client, at the price of a round trip a call. Windows
            # reports only how a pipeline ends (PowerShell source, ServerPowerShellDriver).
            pipeline.state.state = PSInvocationState.Running
            commands = invocations(event.pipeline)
            pipeline.function = "".join(each.text for each in commands if not each.is_script)
            threading.Thread(
                target=self._run, args=(pipeline, commands), name="pipeline", daemon=True
            ).start()
        elif isinstance(event, psrpcore.GetAvailableRunspacesEvent):
            busy = sum(pipeline.is_running() for pipeline in self._pipelines.values())
            free = max(0, self._pool.max_runspaces - busy)
            self._pool.runspace_availability_response(event.ci, free)
        elif isinstance(event, psrpcore.ResetRunspaceStateEvent):
            # A reset clears variables; functions of the global scope stay, so nothing to do.
            self._pool.runspace_availability_response(event.ci, True)
        elif isinstance(event, (psrpcore.SetMaxRunspacesEvent, psrpcore.SetMinRunspacesEvent)):
            self._pool.runspace_availability_response(event.ci, False)

    def _run(self, pipeline: _Pipeline, commands: tuple[Invocation, ...]) -> None:
        """Carry out a pipeline in a thread of its own."""
        with self._slots:
            self._hold()
            with self._changed:
                # Stopped or closed while it waited for a runspace: then it never runs.
                if self._closed or not pipeline.is_running():
                    return
            output, failure = None, None
            try:
                output = self._runspace.run(commands)
            except CommandFailed as error:
                failure = error
            except Exception as error:  # noqa: BLE001 -- a handler's bug must not hang its client
                failure = _handler_bug(error)
            self._hold()
        with self._changed:
            if pipeline.is_running() and not pipeline.terminated and not self._closed:
                self._finish(pipeline, output, failure)

    def _finish(
        self, pipeline: _Pipeline, output: str | None, failure: CommandFailed | None
    ) -> None:
        if output is not None:
            pool_id, pipeline_id = self._pool.runspace_pool_id, pipeline.state.pipeline_id
            number = self._next_output_id
            self._next_output_id += 1
            for fragment in output_fragments(pool_id, pipeline_id, number, output):
                pipeline.outbox.put(fragment)
        if failure is None:
            pipeline.state.complete()
        else:
            # psrpcore has no public way to fail a pipeline: say it, and note it.
            failed = PSInvocationState.Failed
            record = error_record(failure)
            pipeline.state.prepare_message(
                PipelineState(PipelineState=int(failed), ExceptionAsErrorRecord=record)
            )
            pipeline.state.state = failed
        self._flush()

    def _flush(self) -> None:
        """Move what psrpcore wants to say to the outboxes, one message an item."""
        while (payload := self._pool.data_to_send(FRAGMENT_BYTES)) is not None:
            if payload.pipeline_id is None:
                self._pool_outbox.put(payload.data)
            elif (pipeline := self._pipelines.get(payload.pipeline_id)) is not None:
                pipeline.outbox.put(payload.data)
        self._changed.notify_all()


def _handler_bug(error: Exception) -> CommandFailed:
    return CommandFailed(
        "SimulatorFault",
        NOT_SPECIFIED,
        RUNTIME_HRESULT,
        f"The simulated function itself failed: {type(error).__name__}: {error}",
    )
