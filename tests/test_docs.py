"""The documentation is true: its commands run, its links lead somewhere, no key is missing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from balancer.cli import VERBS, run
from balancer.config import ConfigDocument, config_schema, load_config
from balancer.config_reference import PAGE, configuration_reference
from balancer.formats.snapshot import read_snapshot
from balancer.policy.load import PolicyDocument

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "policies" / "README.md",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Return the commands of a page's blocks: each line that begins with our name."""
    blocks = "\n".join(BLOCK.findall(page.read_text("utf-8")))
    return re.findall(r"^ *(balancer [^#\n]+?) *(?:#.*)?$", blocks, re.MULTILINE)


def reads_a_snapshot(command: str) -> bool:
    return "--snapshot" in command or command.startswith("balancer schema")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


RUNNABLE = [
    pytest.param(command, id=f"{relative(page)}: {command}")
    for page in PAGES
    for command in commands(page)
    if reads_a_snapshot(command)
]


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_command_on_a_snapshot_works_as_written(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_the_readme_shows_every_way_to_use_a_snapshot() -> None:
    verbs = {command.split()[1] for command in commands(ROOT / "README.md")}
    assert {"plan", "explain", "place", "check", "observe", "apply"} <= verbs


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_verb_and_option_that_is_mentioned_exists(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in commands(page):
        verb = shlex.split(command)[1]
        assert verb in VERBS, command
        assert run([verb, "--help"]) == 0
        told = capsys.readouterr().out
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", command):
            assert option in told, command


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_every_key_of_a_policy_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "policy.md").read_text("utf-8")
    missing = [key for key in keys(PolicyDocument) if f"`{key}`" not in page]
    assert not missing


def test_the_configuration_reference_is_in_step_with_the_model() -> None:
    page = (ROOT / "docs" / "reference" / PAGE).read_text("utf-8")
    renew = "python -m balancer.config_reference docs/reference"
    assert page == configuration_reference(), f"renew it: {renew}"
    missing = [key for key in keys(ConfigDocument) if f"`{key}`" not in page]
    assert not missing
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert [row for row in rows if not row[3]] == []


def test_the_configurations_in_the_reference_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / PAGE).read_text("utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        file = tmp_path / "balancer.yaml"
        file.write_text(text, "utf-8")
        assert load_config(file).document.clusters
        schema = jsonschema.Draft202012Validator(config_schema())
        assert list(schema.iter_errors(yaml.safe_load(text))) == []


def test_every_key_of_the_configuration_is_described_by_its_schema(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["schema", "config"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == keys(ConfigDocument)


def test_the_example_inventory_is_a_snapshot_without_warnings() -> None:
    read = read_snapshot(ROOT / "docs" / "examples" / "inventory.json")
    assert read.warnings == ()
    assert read.cluster.taken_at is not None


def test_the_picture_in_the_readme_is_what_the_program_prints() -> None:
    """Every line of it that is no mark of something left out has the form of a real one."""
    picture = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))[0]
    assert "$ balancer demo" in picture
    for heading in ("host  CPU", "from → to", "transport of", "Nothing to do"):
        assert heading in picture
