"""YAML as we take it: scalars as text, every fault at its place, nothing that explodes."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from balancer.errors import InputError, InputErrorGroup
from balancer.policy.document import load_document, parse_document
from balancer.policy.fields import Count, Document, Duration, Flag, Text
from balancer.policy.tree import BYTES_MAX, VALUES_MAX, parse_tree


class Wheel(Document):
    size: Count
    name: Text | None = None


class Car(Document):
    version: Text
    fast: Flag = False
    lasts: Duration = 60.0
    wheels: tuple[Wheel, ...] = ()
    words: tuple[Text, ...] = Field((), min_length=1)


def refused(text: str | bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_document(text, "car.yaml", Car, "car")
    return caught.value


def faults(text: str) -> dict[str, str]:
    """Return place -> message of every fault of a document."""
    error = refused(text)
    errors = error.errors if isinstance(error, InputErrorGroup) else (error,)
    assert all(e.remedy for e in errors)
    return {str(e.place): e.message for e in errors}


def test_scalars_are_text_until_the_model_types_them() -> None:
    tree, _ = parse_tree("a: no\nb: 012\nc: 1:30\nd: 1e3\ne: '1'\nf: null\ng: ~\n", "f", "car")
    assert tree == {
        "a": "no", "b": "012", "c": "1:30", "d": "1e3", "e": "1", "f": "null", "g": "~",
    }  # fmt: skip


def test_a_document_becomes_its_model_and_tells_where_things_are() -> None:
    car, places = parse_document(
        "version: 1\nfast: true\nlasts: 2h\nwheels:\n  - {size: 18}\n  - size: 19\n    name: no\n",
        "car.yaml",
        Car,
    )
    assert car == Car(version="1", fast=True, lasts=7200.0, wheels=(
        Wheel(size=18), Wheel(size=19, name="no"),
    ))  # fmt: skip
    assert places.line(("wheels", 1)) == "car.yaml:6"
    assert str(places.key(("wheels", 1, "name"))) == "car.yaml:7:5: wheels[1].name"
    assert str(places.value(("wheels", 1, "name"))) == "car.yaml:7:11: wheels[1].name"


def test_a_key_with_nothing_after_it_is_absent() -> None:
    car, _ = parse_document("version: 1\nwheels:\n#  - size: 3\nfast:\n", "f", Car)
    assert car == Car(version="1")


def test_every_fault_is_told_at_once_in_the_order_of_the_document() -> None:
    found = faults(
        "version: 1\nfast: yes\nlasts: 90\nwheel: []\nwheels:\n  - {size: x, nme: y}\n  - 7\n"
    )
    assert found == {
        "car.yaml:2:7: fast": "expected true or false, not 'yes'",
        "car.yaml:3:8: lasts": "expected a duration with its unit (s, m, h, d), "
        "for example 15m, not '90'",
        "car.yaml:4:1: wheel": "unknown key 'wheel'",
        "car.yaml:6:12: wheels[0].size": "expected a whole number, for example 12, not 'x'",
        "car.yaml:6:15: wheels[0].nme": "unknown key 'nme'",
        "car.yaml:7:5: wheels[1]": "expected a mapping (key: value), not '7'",
    }
    assert list(found) == sorted(found)


def test_an_unknown_key_names_the_one_that_was_meant() -> None:
    assert refused("version: 1\nweels: []\n").remedy == "did you mean wheels?"
    assert refused("version: 1\nwheels: [{size: 1, nmae: x}]\n").remedy == "did you mean name?"
    assert refused("version: 1\ncolour: red\n").remedy.startswith("use one of: fast, ")


def test_a_missing_key_and_an_empty_list_say_so() -> None:
    assert faults("fast: true\n") == {"car.yaml:1:1: version": "version is missing"}
    assert faults("version: 1\nwords: []\n") == {
        "car.yaml:2:8: words": "expected at least one entry, not none"
    }


def test_hundreds_of_faults_stay_readable() -> None:
    error = refused("version: 1\nwheels:\n" + "  - {size: x}\n" * 300)
    assert isinstance(error, InputErrorGroup)
    assert len(error.errors) == 26
    assert "275 more" in str(error)


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("", "car.yaml", "empty"),
        ("# only a comment\n", "car.yaml", "empty"),
        ("---\n", "car.yaml", "empty"),
        ("- a\n- b\n", "car.yaml:1:1", "at the top"),
        ("just words", "car.yaml:1:1", "at the top"),
        ("version: 1\n  fast: x\n", "car.yaml:2:7", "not YAML"),
        ("version: [1\n", "car.yaml:2:1", "not YAML"),
        ('version: "1\n', "car.yaml:2:1", "not YAML"),
        ("version: 1\nlasts: %9\n", "car.yaml:2:8", "not YAML"),
        ("version: 1\nwheels:\n\t- {size: 3}\n", "car.yaml:3:1", "not YAML"),
        ("version: 1\nversion: 2\n", "car.yaml:2:1: version", "already on line 1"),
        ("version: 1\nwheels: [{size: 1, size: 2}]\n", "car.yaml:2:20: wheels[0].size", "already"),
        ("version: 1\n? [a, b]\n: c\n", "car.yaml:2:3", "a key has to be text"),
        ("version: &a 1\n", "car.yaml:1:10", "anchors"),
        ("version: 1\nfast: *a\n", "car.yaml:2:7", "aliases"),
        ("version: !!python/object:os.system x\n", "car.yaml:1:10", "tags"),
        ("version: !!int 1\n", "car.yaml:1:10", "tags"),
        ("version: 1\n---\nversion: 1\n", "car.yaml:2:1", "second document"),
        ("version: 1\nwheels:\n  -\n", "car.yaml:3:4: wheels[0]", "empty"),
        ("version: a\0b\n", "car.yaml:1", "not YAML text"),
        (b"version: \xff\n", "car.yaml:1", "not UTF-8"),
        ("version: 1\n".encode("utf-16"), "car.yaml:1", "UTF-16"),
        ("version: \ud800\n", "car.yaml:1", "not UTF-8"),
        ("[" * 100_000, "car.yaml:1:33", "levels deep"),
        ("a: " + "{a: " * 100_000, "car.yaml:1", "levels deep"),
        ("- " * 100_000, "car.yaml:1", "levels deep"),
        ("a: [" + "x," * (VALUES_MAX + 1) + "]", "car.yaml:1", "more than 200000 values"),
        ("a" * (BYTES_MAX + 1), "car.yaml", "larger than 4 MiB"),
    ],
)
def test_what_is_no_document_of_ours_is_refused_at_its_place(
    text: str | bytes, place: str, told: str
) -> None:
    document = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    error = refused(document)
    assert str(error.place).startswith(place)
    assert told in error.message
    assert error.remedy


def test_tabs_and_percent_signs_have_remedies_of_their_own() -> None:
    assert "spaces" in refused("version: 1\nwheels:\n\t- {size: 3}\n").remedy
    assert "quoted" in refused("version: 1\nlasts: %9\n").remedy


def test_a_billion_laughs_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdef", "bcdefg", strict=True)
    )
    assert "anchors" in refused(bomb).message


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "car.yaml"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\r\nfast: true\r\n")
    assert load_document(file, Car)[0] == Car(version="1", fast=True)


def test_a_packed_file_is_unpacked_and_a_cut_off_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "car.yaml.gz"
    packed = gzip.compress(b"version: 1\n")
    file.write_bytes(packed)
    assert load_document(file, Car)[0] == Car(version="1")
    file.write_bytes(packed[:-9])
    with pytest.raises(InputError, match="cut off or damaged"):
        load_document(file, Car)
    file.write_bytes(gzip.compress(b" " * (BYTES_MAX + 2)))
    with pytest.raises(InputError, match="larger than"):
        load_document(file, Car)


@pytest.mark.parametrize("path", ["missing.yaml", ".", "missing/car.yaml", "a\0b"])
def test_what_cannot_be_read_is_an_input_error(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load_document(path, Car, "car")
    assert "car" in caught.value.message
    assert caught.value.remedy


@given(
    st.one_of(
        st.binary(max_size=200), st.text(alphabet="-:[]{}?&*!|>'\"%@` \n\tab#,.", max_size=60)
    )
)
def test_any_bytes_are_a_model_or_an_input_error(document: bytes | str) -> None:
    with contextlib.suppress(InputError):
        parse_document(document, "f", Car)
