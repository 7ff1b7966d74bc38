"""The health endpoint over real sockets, with the clients nobody wants."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from balancer.clock import ScaledClock, SystemClock
from balancer.errors import InputError
from balancer.service import web
from balancer.service.events import Event, EventKind
from balancer.service.health import Health, serve
from balancer.service.metrics import Metrics
from balancer.service.web import Answer, WebServer

AT = datetime(2026, 3, 1, tzinfo=UTC)


def broken() -> Answer:
    raise KeyError("x")


@pytest.fixture
def server() -> Iterator[WebServer]:
    pages = {"/ok": lambda: Answer(b"fine\n"), "/big": lambda: Answer(b"x" * 5_000_000)}
    made = WebServer("127.0.0.1", 0, {**pages, "/broken": broken}, SystemClock())
    yield made
    made.close()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_pages(server: WebServer) -> None:
    assert get(server.port, "/ok") == (200, b"fine\n")
    assert get(server.port, "/ok?x=1", "HEAD") == (200, b"")
    assert get(server.port, "/ok", "POST")[0] == 405
    assert get(server.port, "/nothing")[0] == 404
    assert get(server.port, "/broken") == (500, b"KeyError\n")
    assert len(get(server.port, "/big")[1]) == 5_000_000


def said(port: int, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(raw)
        heard = b""
        with contextlib.suppress(ConnectionError):
            while data := client.recv(4096):
                heard += data
        return heard


@pytest.mark.parametrize("raw", [b"\r\n\r\n", b"GET /ok\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_what_is_no_request_is_told_so(server: WebServer, raw: bytes) -> None:
    assert said(server.port, raw).startswith(b"HTTP/1.1 400 ")


def test_a_request_without_end_is_cut_off(server: WebServer) -> None:
    assert said(server.port, b"GET /ok HTTP/1.1\r\n" + b"x" * 20_000) == b""


def test_hundreds_of_stalling_clients_do_not_keep_a_probe_out(server: WebServer) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for n in range(200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            if n % 2:
                client.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\n")  # and never the rest
        began = time.monotonic()
        assert get(server.port, "/ok") == (200, b"fine\n")
        assert time.monotonic() - began < 2.0
        assert threading.active_count() == before


def test_a_client_that_does_not_read_holds_nobody_up(server: WebServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as lazy:
        lazy.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert get(server.port, "/ok") == (200, b"fine\n")


def test_a_dribbling_client_is_cut_off_in_the_end() -> None:
    server = WebServer("127.0.0.1", 0, {}, ScaledClock(10.0))
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - began < 8:
                    client.sendall(b"x")
                    time.sleep(0.05)
            assert time.monotonic() - began < web.PATIENCE_S / 10 + 2 * web.TICK_S + 1
    finally:
        server.close()


def test_an_address_that_is_taken_is_refused_by_name(server: WebServer) -> None:
    with pytest.raises(InputError, match=f"127.0.0.1:{server.port}"):
        WebServer("127.0.0.1", server.port, {}, SystemClock())
    with pytest.raises(InputError, match=r"no\.such\.host\.invalid"):
        WebServer("no.such.host.invalid", 80, {}, SystemClock())


def test_it_stops_at_once_and_lets_the_port_go() -> None:
    server = WebServer("127.0.0.1", 0, {}, SystemClock())
    port = server.port
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2 * web.TICK_S
    WebServer("127.0.0.1", port, {}, SystemClock()).close()


def test_health_follows_events() -> None:
    health, metrics = Health(), Metrics()
    health.watch(("prod", "other"))
    server = serve("127.0.0.1", 0, health, metrics, SystemClock())

    def status(path: str) -> tuple[int, str]:
        code, body = get(server.port, path)
        return code, json.loads(body)["status"]

    def tell(kind: EventKind, cluster: str = "", text: str = "") -> None:
        health.hear(Event(AT, kind, cluster=cluster, text=text))

    try:
        assert status("/healthz") == (200, "alive")
        assert status("/readyz") == (503, "starting")
        tell(EventKind.DAEMON_READY)
        assert status("/readyz") == (200, "ready")
        tell(EventKind.LOOP_STUCK, "prod")
        tell(EventKind.SAMPLED, "other")
        assert status("/healthz") == (503, "stuck")
        tell(EventKind.CYCLE_ENDED, "prod")
        assert status("/healthz") == (200, "alive")
        tell(EventKind.LOOP_STUCK, "prod")
        health.watch(("other",))  # a reload took it out of the configuration
        assert status("/healthz") == (200, "alive")
        tell(EventKind.STORE_FAILED, text="the disk is full")
        assert status("/readyz") == (503, "store failed")
        tell(EventKind.SAMPLE_FAILED, "prod")
        assert status("/readyz") == (503, "store failed"), "that needed no store"
        tell(EventKind.CYCLE_ENDED, "prod")
        assert status("/readyz") == (200, "ready")
        tell(EventKind.DAEMON_STOPPING)
        assert status("/readyz") == (503, "stopping")
        code, body = get(server.port, "/metrics")
        assert code == 200
        assert b"balancer_build_info{" in body
    finally:
        server.close()
