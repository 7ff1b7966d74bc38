"""Small clusters and the plans made for them, explained as `balancer explain` does.

Each scenario is a cluster in the text notation, a `---`, and a policy; beside it stands what is
expected. Scenarios have one best answer, so that no tie between solvers is pinned. After a change
that was meant, `pytest tests/golden --bless` writes the expectations anew: read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli import run
from balancer.formats.snapshot import snapshot_to_json
from tests.notation import cluster

HERE = Path(__file__).parent
SCENARIOS = sorted(HERE.glob("*.scenario"))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_the_plan_is_explained_as_expected(
    scenario: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bless: bool,  # noqa: FBT001 -- a fixture
) -> None:
    head, _, policy = scenario.read_text("utf-8").partition("---\n")
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(snapshot_to_json(cluster(head, name=scenario.stem)), "utf-8")
    (tmp_path / "policy.yaml").write_text(policy, "utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    code = run(["explain", "--snapshot", "snapshot.json", "--policy", "policy.yaml"])
    told = capsys.readouterr()
    lines = [line.rstrip() for line in (told.out + told.err).splitlines()]
    text = "\n".join(lines) + f"\nexit code {code}\n"
    expected = scenario.with_suffix(".txt")
    if bless:
        expected.write_text(text, "utf-8")
    assert text == expected.read_text("utf-8")


def test_every_expectation_has_its_scenario() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == {path.stem for path in SCENARIOS}
