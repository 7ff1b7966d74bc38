"""Reading everything the daemon goes by: whole and right, or not at all; and what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.errors import InputError
from balancer.service.reload import Plant, difference, read_plant

CLUSTER = """\
  - name: {name}
    hosts: [{name}-1]
    policy: {policy}
    connection: {{username: me, password_file: password}}
"""


class Files:
    """A configuration with its policy and password."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.write("password", "secret")
        self.write("policy.yaml", "version: 1\n")

    def write(self, name: str, text: str) -> None:
        (self._directory / name).write_text(text, "utf-8")

    def clusters(self, *names: str, more: str = "", policy: str = "policy.yaml") -> None:
        parts = "".join(CLUSTER.format(name=name, policy=policy) for name in names)
        self.write("balancer.yaml", f"version: 1\nclusters:\n{parts}{more}")

    def read(self, only: str | None = None) -> Plant:
        return read_plant(self._directory / "balancer.yaml", VirtualClock(), only)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_each_cluster_gets_its_own_or_the_one_that_was_asked_for(files: Files) -> None:
    files.clusters("A", "B")
    assert list(files.read().setups) == ["A", "B"]
    assert list(files.read("b").setups) == ["B"]
    with pytest.raises(InputError, match="no cluster 'C'"):
        files.read("C")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda f: f.write("policy.yaml", "version: 1\nmode: automatic\n"), "policy.yaml"),
        (lambda f: f.write("balancer.yaml", "version: 1\nclusters: []\n"), "clusters"),
        (lambda f: f.clusters("A", "a"), "two clusters are named"),
        (lambda f: f.clusters("A", policy="gone.yaml"), "gone.yaml"),
        (lambda f: f.clusters("A", more="    schedule: {cron: '0 25 * * *'}\n"), "0 25"),
        (lambda f: f.clusters("A", more="    addresses: {A-1: 'x:99999'}\n"), "99999"),
        (lambda f: f.clusters("A", more="    schedule: {every: 15m, cron: '0 * * * *'}\n"), "both"),
    ],
)
def test_one_thing_wrong_is_enough_to_refuse_it_all(
    files: Files, break_it: object, said: str
) -> None:
    files.clusters("A", "B")
    files.read()
    assert callable(break_it)
    break_it(files)
    with pytest.raises(InputError) as caught:
        files.read()
    assert said in str(caught.value)


def test_a_password_that_is_gone_is_told_without_what_it_was(files: Files, tmp_path: Path) -> None:
    files.clusters("A")
    files.read()
    (tmp_path / "password").unlink()
    with pytest.raises(InputError, match="password_file") as caught:
        files.read()
    assert "secret" not in str(caught.value)


def test_the_same_files_are_no_change(files: Files) -> None:
    files.clusters("A", "B")
    change = difference(files.read(), files.read())
    assert (change.added, change.removed, change.changed) == ((), (), ())
    assert str(change) == "0 added, 0 removed, 0 changed"


def test_clusters_that_come_go_and_change_are_told_apart(files: Files) -> None:
    files.clusters("A", "B", "C")
    before = files.read()
    files.clusters("D", "C", "B", more="    schedule: {every: 1h}\n")
    change = difference(before, files.read())
    assert [setup.name for setup in change.added] == ["D"]
    assert change.removed == ("A",)
    assert [setup.name for setup in change.changed] == ["B"]


def test_another_policy_changes_every_cluster_that_goes_by_it(files: Files) -> None:
    files.clusters("A", "B")
    before = files.read()
    files.write("policy.yaml", "version: 1\nmode: auto\n")
    assert [setup.name for setup in difference(before, files.read()).changed] == ["A", "B"]


def test_another_password_is_a_change_and_is_never_shown(files: Files) -> None:
    files.clusters("A")
    before = files.read()
    files.write("password", "geheim")
    (changed,) = difference(before, files.read()).changed
    assert changed.login == "geheim"
    assert "geheim" not in repr(changed)


def test_what_holds_for_the_whole_service_changes_every_cluster(files: Files) -> None:
    files.clusters("A", "B")
    before = files.read()
    files.clusters("A", "B", more="service: {start_delay: 5m}\n")
    assert len(difference(before, files.read()).changed) == 2
