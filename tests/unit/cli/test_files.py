from __future__ import annotations

from pathlib import Path

import pytest

from balancer.cli.files import check_output, make_directory, write_file
from balancer.errors import InputError


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "plän 1.json"
    write_file(path, "old")
    path.chmod(0o640)
    write_file(path, "new")
    assert path.read_text("utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_file(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_what_was_there_is_kept_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    path.write_text("old")

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/plan.json", "file/plan.json", "."])
def test_a_place_that_cannot_be_written_to_is_told_before_the_work(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*\n  remedy: "):
        check_output(tmp_path / name)


def test_a_full_device_is_told() -> None:
    check_output(Path("/dev/full"))
    with pytest.raises(InputError, match="/dev/full: No space left"):
        write_file(Path("/dev/full"), "text")


def test_a_directory_that_cannot_be_made_is_told() -> None:
    with pytest.raises(InputError, match="cannot write"):
        make_directory(Path("/proc/nothing"))
