"""Notifications to a real HTTP server and a real SMTP server on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd import controller

from balancer.clock import ScaledClock, SystemClock
from balancer.errors import InputError
from balancer.service import notify
from balancer.service.events import Event, EventKind, Weight
from balancer.service.notify import Notifier, addresses, apprise_sender
from balancer.service.redact import Secrets

AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
PATIENCE_S = 15.0


def event(kind: EventKind = EventKind.HOST_LOST, subject: str = "HV01", **more: Any) -> Event:
    return Event(
        AT, kind, **{"cluster": "prod", "subject": subject, "text": f"{subject} gone"} | more
    )


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.01)


@dataclass
class Outbox:
    """A sender that keeps what it is given, and fails as long as it is told to."""

    fails: int = 0
    sent: list[tuple[str, str, Weight]] = field(default_factory=list)
    tried_s: list[float] = field(default_factory=list)
    hold: threading.Event | None = None

    def __call__(self, title: str, body: str, weight: Weight) -> bool:
        self.tried_s.append(time.monotonic())
        if self.hold is not None:
            self.hold.wait(PATIENCE_S)
        if len(self.tried_s) <= self.fails:
            raise ConnectionError("no")
        self.sent.append((title, body, weight))
        return True


def test_the_first_goes_at_once_and_a_storm_becomes_one_digest() -> None:
    outbox = Outbox()
    notifier = Notifier(outbox, ScaledClock(100.0), every_s=100.0)  # one second of life
    notifier.hear(event())
    until(lambda: len(outbox.sent) == 1)
    assert outbox.sent[0] == (
        "[balancer] prod: host lost",
        "2026-03-01 02:00 UTC warning: prod HV01: HV01 gone",
        Weight.WARNING,
    )
    for n in range(1000):
        notifier.hear(event(subject=f"HV{n % 5}"))
    notifier.hear(event(EventKind.CYCLE_FAILED, "", text="cannot reach anybody"))
    until(lambda: len(outbox.sent) == 2)
    title, body, weight = outbox.sent[1]
    assert title == "[balancer] prod: 1 error, 5 warning"
    assert weight is Weight.ERROR
    assert body.splitlines()[0].endswith("error: prod: cannot reach anybody")
    assert body.count("(200 times since 02:00 UTC)") == 5
    assert outbox.tried_s[1] - outbox.tried_s[0] >= 0.9
    notifier.close()


def test_what_is_not_worth_it_is_not_sent() -> None:
    outbox = Outbox()
    notifier = Notifier(outbox, SystemClock(), at_least=Weight.ERROR, clusters=("prod",))
    notifier.hear(event(EventKind.HOST_LOST))
    notifier.hear(event(EventKind.CYCLE_FAILED, cluster="branch"))
    notifier.hear(event(EventKind.SAMPLED))
    notifier.close()
    assert outbox.sent == []


def test_what_asks_somebody_is_sent_whatever_the_level() -> None:
    outbox = Outbox()
    notifier = Notifier(outbox, SystemClock(), at_least=Weight.ERROR)
    notifier.hear(event(EventKind.APPROVAL_WANTED, "plan 7"))
    notifier.close()
    assert len(outbox.sent) == 1


def test_a_failed_message_is_tried_again_with_growing_pauses_and_nothing_is_lost() -> None:
    outbox, told = Outbox(fails=3), list[bool]()
    notifier = Notifier(outbox, ScaledClock(100.0), told=told.append)
    notifier.hear(event(subject="HV1"))
    until(lambda: len(outbox.tried_s) == 1)
    notifier.hear(event(subject="HV2"))
    notifier.hear(event(subject="HV1"))
    until(lambda: bool(outbox.sent))
    notifier.close()
    pauses = [b - a for a, b in zip(outbox.tried_s, outbox.tried_s[1:], strict=False)]
    expected = [0.15, 0.3, 0.6]
    assert all(wait_s <= pause for wait_s, pause in zip(expected, pauses, strict=True))
    ((_, body, _),) = outbox.sent
    assert "HV1 gone (2 times" in body
    assert "HV2 gone" in body
    assert told == [False, False, False, True]


def test_telling_never_waits_and_what_waits_is_bounded() -> None:
    outbox = Outbox(hold=threading.Event())
    notifier = Notifier(outbox, ScaledClock(1e6))
    notifier.hear(event(subject="first"))
    until(lambda: len(outbox.tried_s) == 1)
    began = time.monotonic()
    for n in range(5 * notify.KEPT_MAX):
        notifier.hear(event(subject=f"HV{n}"))
    assert time.monotonic() - began < 2.0
    assert outbox.hold is not None
    outbox.hold.set()
    notifier.close()
    body = outbox.sent[-1][1]
    assert len(body.splitlines()) == notify.LINES_MAX + 1
    assert f"and {5 * notify.KEPT_MAX - notify.LINES_MAX} more" in body


def test_a_sender_that_hangs_does_not_hold_up_the_end() -> None:
    outbox = Outbox(hold=threading.Event())
    notifier = Notifier(outbox, SystemClock())
    notifier.hear(event())
    until(lambda: len(outbox.tried_s) == 1)
    began = time.monotonic()
    notifier.close(timeout_s=0.3)
    assert time.monotonic() - began < 1.0
    assert outbox.hold is not None
    outbox.hold.set()


def test_secrets_stay_here() -> None:
    outbox, secrets = Outbox(), Secrets()
    secrets.learn("hunter2hunter2")
    notifier = Notifier(outbox, SystemClock(), secrets=secrets)
    notifier.hear(event(text="login with hunter2hunter2 failed"))
    notifier.close()
    assert "hunter2" not in outbox.sent[0][1]


@dataclass
class Web:
    """A real HTTP server that keeps what is posted, and says 503 as long as it is told to."""

    port: int = 0
    refusals: int = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            refused = made.refusals > 0
            made.refusals -= 1
            if not refused:
                made.posted.append(json.loads(body))
            self.send_response(503 if refused else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.port = server.server_port
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_the_message_after_the_server_recovers(web: Web) -> None:
    web.refusals = 2
    notifier = Notifier(
        apprise_sender(f"json://127.0.0.1:{web.port}/hook", "here"), ScaledClock(100.0)
    )
    notifier.hear(event(EventKind.CYCLE_FAILED, "", text="a <b>name</b> & *stars*"))
    until(lambda: bool(web.posted))
    notifier.close()
    (message,) = web.posted
    assert message["title"] == "[balancer] prod: cycle failed"
    assert message["message"].endswith("error: prod: a <b>name</b> & *stars*")
    assert message["type"] == "failure"


def test_mail_arrives() -> None:
    received: list[Any] = []

    class Mailbox:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
            received.append(envelope)
            return "250 taken"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    smtp = controller.Controller(Mailbox(), hostname="127.0.0.1", port=port)
    smtp.start()
    try:
        address = f"mailto://127.0.0.1:{port}?from=balancer@example.com&to=ops@example.com"
        notifier = Notifier(apprise_sender(address, "here"), SystemClock())
        notifier.hear(event(EventKind.DRAIN_FAILED, "HV07", text="HV07 is not empty"))
        until(lambda: bool(received))
        notifier.close()
    finally:
        smtp.stop()
    (envelope,) = received
    assert envelope.rcpt_tos == ["ops@example.com"]
    text = envelope.content.decode()
    assert "drain failed" in text
    assert "HV07 is not empty" in text


def test_an_address_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(InputError) as caught:
        apprise_sender("nothing://secret-token", "/etc/balancer/notify")
    assert "secret-token" not in str(caught.value)
    assert "/etc/balancer/notify" in str(caught.value)


def test_a_closed_port_is_a_failure_and_no_more() -> None:
    assert not apprise_sender("json://127.0.0.1:1/x", "here")("t", "b", Weight.INFO)


def test_addresses_are_one_a_line() -> None:
    assert addresses("# mail\nmailto://x\n\n  json://y  \n") == ("mailto://x", "json://y")
