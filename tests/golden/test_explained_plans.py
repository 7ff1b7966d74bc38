"""Small clusters and the plans made for them, explained as `balancer explain` does.

Each scenario is a cluster in the text notation, a `---`, and a policy; a second `---` may follow
with questions, one a line, as they are put to `balancer explain`. Beside it stands what is told.
What has happened lately is told among the questions by lines such as `past: a h1 h2 20`: VM a went
from h1 to h2 twenty minutes ago.

Scenarios have one best answer, so that no tie between solvers is pinned. After a change that was
meant, `pytest tests/golden --bless` writes the expectations anew: read the difference.
"""

from __future__ import annotations

import shlex
from datetime import timedelta
from pathlib import Path

import pytest

from balancer.cli import run
from balancer.cli.options import Source
from balancer.formats.snapshot import snapshot_to_json
from balancer.hindsight import Hindsight
from balancer.judged import UNDATED
from balancer.model.cluster import Cluster
from balancer.model.past import Past, PastMove
from balancer.policy.policy import Policy
from tests.notation import GIB, cluster

HERE = Path(__file__).parent
SCENARIOS = sorted(HERE.glob("*.scenario"))


def past_of(lines: list[str]) -> Past | None:
    """Return the past that a scenario tells of."""
    moves = [
        PastMove(vm, source, target, UNDATED - timedelta(minutes=float(minutes)), GIB)
        for vm, source, target, minutes in (line.split()[1:] for line in lines)
    ]
    return Past(UNDATED, tuple(moves)) if moves else None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_the_plan_is_explained_as_expected(
    scenario: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    bless: bool,  # noqa: FBT001 -- a fixture
) -> None:
    head, policy, *rest = scenario.read_text("utf-8").split("---\n")
    lines = [line for part in rest for line in part.splitlines() if line.strip()]
    past = past_of([line for line in lines if line.startswith("past: ")])
    questions = [line for line in lines if not line.startswith("past: ")]
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(snapshot_to_json(cluster(head, name=scenario.stem)), "utf-8")
    (tmp_path / "policy.yaml").write_text(policy, "utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def behind(source: Source, seen: Cluster, policy: Policy) -> Hindsight | None:
        del source, policy
        return None if past is None else Hindsight(seen, past)

    monkeypatch.setattr(Source, "behind", behind)
    text = ""
    for question in questions or [""]:
        given = ["--snapshot", "snapshot.json", "--policy", "policy.yaml"]
        code = run(["explain", *given, *shlex.split(question)])
        told = capsys.readouterr()
        said = [line.rstrip() for line in (told.out + told.err).splitlines()]
        asked = [f"$ balancer explain {question}"] if questions else []
        text += "\n".join([*asked, *said, f"exit code {code}", ""])
    expected = scenario.with_suffix(".txt")
    if bless:
        expected.write_text(text, "utf-8")
    assert text == expected.read_text("utf-8")


def test_every_expectation_has_its_scenario() -> None:
    assert {path.stem for path in HERE.glob("*.txt")} == {path.stem for path in SCENARIOS}
