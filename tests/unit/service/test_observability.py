from __future__ import annotations

import http.client
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog

from balancer.clock import SystemClock, VirtualClock
from balancer.config import Config, load_config
from balancer.errors import InputError
from balancer.service.events import Bus, Event, EventKind
from balancer.service.observability import SECRETS, set_up_logging, subscribe_all
from balancer.store.store import Store

AT = datetime(2026, 3, 1, tzinfo=UTC)


def configured(directory: Path, service: str, clusters: str = "prod") -> Config:
    file = directory / "balancer.yaml"
    parts = "".join(
        f"  - {{name: {name}, hosts: [h1], connection: {{password_file: secret}}}}\n"
        for name in clusters.split()
    )
    file.write_text(f"version: 1\nclusters:\n{parts}service:\n{service}", "utf-8")
    (directory / "secret").write_text("hunter2hunter2\n", "utf-8")
    return load_config(file)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before
    structlog.reset_defaults()


def test_everybody_hears_and_is_let_finish(tmp_path: Path) -> None:
    stream = io.StringIO()
    set_up_logging(VirtualClock(), stream=stream)
    config = configured(tmp_path, "  health: 127.0.0.1:0\n")
    bus = Bus()
    with Store.open(tmp_path / "s.sqlite") as store:
        everybody = subscribe_all(bus, config, store, SystemClock())
        text = "frozen by hunter2hunter2"
        bus.tell(Event(AT, EventKind.FROZEN, cluster="prod", text=text))
        assert everybody.port is not None
        connection = http.client.HTTPConnection("127.0.0.1", everybody.port, timeout=5)
        connection.request("GET", "/metrics")
        told = connection.getresponse().read().decode()
        connection.close()
        everybody.close()
        assert 'balancer_frozen{cluster="prod"} 1.0' in told
        assert [line.what for line in store.audit.entries()] == ["frozen"]
        (line,) = (json.loads(each) for each in stream.getvalue().splitlines())
        assert line["event"] == "frozen"
        assert "hunter2" not in line["text"], "the password of the configuration is a secret"
        bus.tell(Event(AT, EventKind.FROZEN))
        assert len(stream.getvalue().splitlines()) == 1, "nobody listens any more"


def test_a_reload_follows_clusters_level_and_notifications(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("# ops\njson://127.0.0.1:1/very-secret-path\n", "utf-8")
    bus = Bus()
    set_up_logging(VirtualClock(), stream=io.StringIO())
    with Store.open(tmp_path / "s.sqlite") as store:
        config = configured(tmp_path, "  health: none\n", "prod branch")
        everybody = subscribe_all(bus, config, store)
        assert everybody.port is None
        more = "  log_level: debug\n  notify: [{url_file: mail}]\n"
        everybody.reload(configured(tmp_path, more, "prod"))
        text = everybody.metrics.text().decode()
        assert 'cluster="branch"' not in text
        assert logging.getLogger().level == logging.DEBUG
        assert "very-secret" not in SECRETS.hide("json://127.0.0.1:1/very-secret-path")
        (tmp_path / "mail").write_text("", "utf-8")
        with pytest.raises(InputError, match="without an address"):
            everybody.reload(configured(tmp_path, more, "prod"))
        everybody.close()


@pytest.mark.parametrize(
    ("service", "key"),
    [
        ("  health: nowhere\n", "service.health"),
        ("  notify: [{at_least: error}]\n", "service.notify.0"),
        ("  notify: [{url_file: missing}]\n", "service.notify"),
        ("  notify: [{url_env: BALANCER_TEST_UNSET}]\n", "service.notify"),
    ],
)
def test_what_cannot_be_set_up_is_refused_with_its_key(
    tmp_path: Path, service: str, key: str
) -> None:
    with (
        Store.open(tmp_path / "s.sqlite") as store,
        pytest.raises(InputError) as caught,
    ):
        subscribe_all(Bus(), configured(tmp_path, service), store)
    assert key in str(caught.value)
