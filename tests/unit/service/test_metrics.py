from __future__ import annotations

import re
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from balancer.service.events import Event, EventKind, Value
from balancer.service.metrics import HOSTS_MAX, OTHER, REASONS, Metrics
from balancer.service.series import Series

AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def watched(*names: str) -> Metrics:
    metrics = Metrics()
    metrics.watch(dict.fromkeys(names or ("prod",), 900.0), AT.timestamp() - 60)
    return metrics


def tell(metrics: Metrics, kind: EventKind, **data: Value) -> None:
    words = {name: str(data.pop(name)) for name in ("subject", "migration", "plan") if name in data}
    cluster = str(data.pop("cluster", "prod"))
    metrics.hear(Event(AT, kind, cluster=cluster, data=data, **words))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.series.registry.get_sample_value(name, labels)


def test_names_and_help_are_as_prometheus_wants_them() -> None:
    families = list(text_string_to_metric_families(watched().text().decode()))
    ours = [family for family in families if family.name.startswith("balancer_")]
    assert len(ours) > 35
    for family in ours:
        assert family.documentation.endswith("."), family.name
        assert re.fullmatch(r"balancer_[a-z]+(_[a-z]+)*", family.name)
        assert not re.search(r"_(ms|milliseconds|minutes|percent|gib|mib)\b", family.name)


def test_nothing_is_ever_labelled_with_a_vm() -> None:
    labels = {
        name for family in Series().registry.collect() for s in family.samples for name in s.labels
    }
    assert "vm" not in labels
    metrics = watched()
    for kind in EventKind:
        tell(metrics, kind, subject="secret-vm-name", vm="secret-vm-name", migration="m1")
    told = metrics.text().decode()
    carrying = [line for line in told.splitlines() if "secret-vm-name" in line]
    # The subject of these two is a host or a listener, never a VM.
    assert all(
        line.startswith(("balancer_host_answers", "balancer_listener_missed_events"))
        for line in carrying
    ), carrying


def test_the_dead_mans_switch_moves_with_completed_cycles_only() -> None:
    metrics = watched()
    name = "balancer_last_cycle_timestamp_seconds"
    assert value(metrics, name, cluster="prod") == AT.timestamp() - 60
    tell(metrics, EventKind.CYCLE_FAILED, seconds=1.0, exit_code=5)
    assert value(metrics, name, cluster="prod") == AT.timestamp() - 60
    turn = "balancer_last_turn_timestamp_seconds"
    tell(metrics, EventKind.CYCLE_SKIPPED, why="interrupted")
    assert value(metrics, turn, cluster="prod") == AT.timestamp() - 60
    tell(metrics, EventKind.CYCLE_SKIPPED, why="window")
    assert value(metrics, turn, cluster="prod") == AT.timestamp()
    assert value(metrics, name, cluster="prod") == AT.timestamp() - 60
    tell(metrics, EventKind.CYCLE_ENDED, seconds=1.0)
    assert value(metrics, name, cluster="prod") == AT.timestamp()
    assert value(metrics, "balancer_cycles_total", cluster="prod", result="failed") == 1
    assert value(metrics, "balancer_cycles_total", cluster="prod", result="done") == 1
    assert value(metrics, "balancer_cycle_pause_max_seconds", cluster="prod") == 900


def test_migrations_are_counted_timed_and_held_against_their_forecast() -> None:
    metrics = watched()
    for id_ in ("m1", "m2", "m3", "m4"):
        tell(metrics, EventKind.MIGRATION_STARTED, migration=id_, plan="p", transport="smb")
    assert value(metrics, "balancer_migrations_in_flight", cluster="prod") == 4
    data: dict[str, Value] = {"transport": "smb", "expected_s": 10.0, "elapsed_s": 14.0}
    tell(metrics, EventKind.MIGRATION_DONE, migration="m1", plan="p", **data)
    tell(metrics, EventKind.MIGRATION_FAILED, migration="m2", plan="p")
    tell(metrics, EventKind.MIGRATION_RETRIED, migration="m3", plan="p")
    tell(metrics, EventKind.MIGRATION_SKIPPED, migration="m5", plan="p", why="window")
    tell(metrics, EventKind.MIGRATION_SKIPPED, migration="m6", plan="p", why="made up just now")
    assert value(metrics, "balancer_migrations_in_flight", cluster="prod") == 1
    assert value(metrics, "balancer_run_stops_total", cluster="prod") == 0, "alerts need a zero"
    for result, count in (("done", 1), ("failed", 1), ("skipped", 2)):
        assert value(metrics, "balancer_migrations_total", cluster="prod", result=result) == count
    bucket = "balancer_migration_forecast_ratio_bucket"
    assert value(metrics, bucket, cluster="prod", le="1.3") == 0
    assert value(metrics, bucket, cluster="prod", le="2.0") == 1
    seconds = "balancer_migration_duration_seconds_sum"
    assert value(metrics, seconds, cluster="prod", transport="smb") == 14
    suppressed = "balancer_suppressed_moves_total"
    assert value(metrics, suppressed, cluster="prod", reason="window") == 1
    assert value(metrics, suppressed, cluster="prod", reason=OTHER) == 1
    assert OTHER not in REASONS


def test_hosts_are_bounded() -> None:
    metrics = watched()
    for n in range(HOSTS_MAX + 500):
        tell(metrics, EventKind.HOST_LOST, subject=f"HV{n}")
    series = re.findall(r"^balancer_host_answers\{", metrics.text().decode(), re.MULTILINE)
    assert len(series) == HOSTS_MAX + 1
    tell(metrics, EventKind.HOST_BACK, subject="HV3")
    assert value(metrics, "balancer_host_answers", cluster="prod", host="HV3") == 1


def test_the_series_of_a_cluster_that_is_gone_end() -> None:
    metrics = watched("prod", "branch")
    for cluster in ("prod", "branch"):
        for kind in EventKind:
            tell(metrics, kind, cluster=cluster, subject="HV1", seconds=1.0, elapsed_s=1.0)
    assert 'cluster="branch"' in metrics.text().decode()
    metrics.watch({"prod": 0.0}, AT.timestamp())
    for kind in EventKind:  # its loop ends its turn
        tell(metrics, kind, cluster="branch", subject="HV1", seconds=1.0, elapsed_s=1.0)
    told = metrics.text().decode()
    assert 'cluster="branch"' not in told
    assert 'cluster="prod"' in told
    assert value(metrics, "balancer_clusters") == 1
    done = value(metrics, "balancer_cycles_total", cluster="prod", result="done")
    assert done == 1, "what stays keeps its counts"


def test_states_follow_events() -> None:
    metrics = watched()
    steps = [
        (EventKind.FROZEN, "balancer_frozen", 1),
        (EventKind.THAWED, "balancer_frozen", 0),
        (EventKind.LEASE_TAKEN, "balancer_lease_held", 1),
        (EventKind.LEASE_LOST, "balancer_lease_held", 0),
        (EventKind.APPROVAL_WANTED, "balancer_approval_pending", 1),
        (EventKind.PLAN_EXPIRED, "balancer_approval_pending", 0),
    ]
    for kind, name, expected in steps:
        tell(metrics, kind)
        assert value(metrics, name, cluster="prod") == expected, kind
    tell(metrics, EventKind.DAEMON_READY)
    assert value(metrics, "balancer_ready") == 1
    tell(metrics, EventKind.CONFIGURATION_REFUSED)
    assert value(metrics, "balancer_configuration_good") == 0
    tell(metrics, EventKind.CONFIGURATION_RELOADED)
    assert value(metrics, "balancer_configuration_good") == 1
    tell(metrics, EventKind.SAMPLED, seconds=2.0, hosts=4, vms=60, unknown_hosts=1)
    assert value(metrics, "balancer_unknown_hosts", cluster="prod") == 1
    tell(metrics, EventKind.LISTENER_FAILED, subject="audit", failures=3, dropped=2)
    assert value(metrics, "balancer_listener_missed_events_total", listener="audit") == 5
    tell(metrics, EventKind.LISTENER_FAILED, subject="audit", failures=6, dropped=4)
    assert value(metrics, "balancer_listener_missed_events_total", listener="audit") == 10
