"""YAML as a tree of mappings, lists and text, with the line and column of everything.

The vocabulary of our documents is fixed, so of YAML we take the readable part only: mappings,
lists and scalars. Tags, anchors, aliases and several documents in a file are refused; that
also leaves nothing for hostile input to expand. Scalars stay text until the model types them,
so `no` is never false and `012` never ten. A key with nothing after it counts as absent.

Parsing works on libyaml's events with a stack of our own, so that depth is bounded by a
number and not by the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import yaml

from balancer.errors import InputError, Place
from balancer.policy.faults import Path, key_path, raised, shown_value
from balancer.policy.quantities import shown
from balancer.policy.reading import text_of

BYTES_MAX = 4 * 2**20  # thousands of rules fit in a tenth of this
VALUES_MAX = 200_000  # a rule for each of 8,000 VMs has a fifth of this
DEPTH_MAX = 32  # our deepest document has eight levels

Tree = str | dict[str, Any] | list[Any] | None

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Places:
    """Where each value and each key of one document stands."""

    file: str
    values: dict[Path, tuple[int, int]]
    keys: dict[Path, tuple[int, int]]

    def value(self, path: Path) -> Place:
        """Return the place of the value at `path`, or of what would contain it."""
        return self._place(path, self.values)

    def key(self, path: Path) -> Place:
        """Return the place of the key that leads to `path`."""
        return self._place(path, self.keys)

    def of(self, path: Path, is_key: bool) -> Place:  # noqa: FBT001 -- see `translate`
        """Return the place of a key or of a value."""
        return self.key(path) if is_key else self.value(path)

    def line(self, path: Path) -> str:
        """Return `policy.yaml:12` for the value at `path`: the origin that rules carry.

        Without directories, so that a plan's text does not depend on where files lie.
        """
        place = self.value(path)
        return f"{PurePath(place.file).name}:{place.line}"

    def _place(self, path: Path, table: dict[Path, tuple[int, int]]) -> Place:
        if path in table:
            line, column = table[path]
            return Place(self.file, line, column, key_path(path))
        for length in range(len(path) - 1, -1, -1):
            if path[:length] in self.values:
                line, column = self.values[path[:length]]
                return Place(self.file, line, column, key_path(path))
        return Place(self.file, key=key_path(path))


def parse_tree(document: str | bytes, file: str, what: str) -> tuple[dict[str, Any], Places]:
    """Read YAML text into mappings, lists and text, with the place of everything.

    Raises:
        InputError: Not UTF-8, not YAML, not a mapping, or with parts of YAML that we refuse.
    """
    text = text_of(document, file, what)
    if len(text) > BYTES_MAX:
        raise InputError(
            f"the {what} is larger than {BYTES_MAX // 2**20} MiB",
            place=Place(file),
            remedy=f"check that this is the {what} you mean",
        )
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        raise _broken(error, text, file) from error
    if builder.faults:
        raise raised(builder.faults)
    if not isinstance(builder.root, dict):
        raise _no_mapping(builder.root, file, what)
    return builder.root, Places(file, builder.values, builder.keys)


def _no_mapping(root: Tree, file: str, what: str) -> InputError:
    if root is None:
        return InputError(
            f"the {what} is empty", place=Place(file), remedy="begin with `version: 1`"
        )
    return InputError(
        f"expected a mapping (key: value) at the top of the {what}, not {shown_value(root)}",
        place=Place(file, 1, 1),
        remedy="begin with `version: 1`, each key at the start of a line",
    )


def _broken(error: yaml.YAMLError, text: str, file: str) -> InputError:
    """Return what the YAML parser did not understand, at its place."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    if mark is None:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else None
        return InputError(
            f"this is not YAML text: {problem}",
            place=Place(file, line),
            remedy="remove the character that does not belong in a text file",
        )
    lines = text.splitlines()
    here = lines[mark.line] if mark.line < len(lines) else ""
    remedy = "check indentation, colons, brackets and quotes on this line and the one before"
    if "\t" in here[: len(here) - len(here.lstrip())]:
        remedy = "indent with spaces: YAML does not allow tabs there"
    elif "%" in here:
        remedy = 'a value that begins with % has to be quoted: "%…"'
    return InputError(
        f"this is not YAML: {problem}",
        place=Place(file, mark.line + 1, mark.column + 1),
        remedy=remedy,
    )


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being filled."""

    path: Path
    value: dict[str, Any] | list[Any]
    key: str | None = None  # of a mapping: the key whose value comes next
    skip: bool = False  # the next value belongs to a key that was refused


@dataclass(slots=True)
class _Builder:
    """Builds the tree from events; collects refusals instead of stopping at the first."""

    file: str
    root: Tree = None
    documents: int = 0
    stack: list[_Open] = field(default_factory=list)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faults: list[InputError] = field(default_factory=list)

    def take(self, event: yaml.Event) -> None:
        """Take one event of the parser."""
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._stop(event, "a second document begins here", "keep one in a file")
            case yaml.AliasEvent():
                self._stop(event, "aliases are not supported", "write the value out")
            case yaml.ScalarEvent():
                self._refuse_extras(event)
                plain = event.style is None or event.style == ""
                self._scalar(event, None if plain and event.value == "" else event.value)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._refuse_extras(event)
                self._begin(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.stack.pop()
            case _:
                pass

    def _refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            self._stop(event, "anchors are not supported", f"remove &{event.anchor}")
        if event.tag not in (None, "!"):
            self._stop(event, f"tags are not supported: {shown(event.tag)}", "remove the tag")

    def _begin(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        if len(self.stack) >= DEPTH_MAX:
            self._stop(event, f"nested more than {DEPTH_MAX} levels deep", "remove the nesting")
        if self._expects_key():
            self._stop(event, "a key has to be text", "write `key: value`")
        path = self._place(event, value)
        self.stack.append(_Open(path, value))

    def _scalar(self, event: Any, text: str | None) -> None:
        if not self._expects_key():
            self._place(event, text)
            return
        top = self.stack[-1]
        top.key = text if text is not None else ""
        path = (*top.path, top.key)
        top.skip = path in self.keys
        if top.skip:
            line, _ = self.keys[path]
            self.faults.append(
                InputError(
                    f"the key {shown(top.key)} is already on line {line}",
                    place=self._at(event, path),
                    remedy="remove one of the two",
                )
            )
        else:
            self.keys[path] = self._mark(event)

    def _expects_key(self) -> bool:
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].value, dict)
            and (self.stack[-1].key is None)
        )

    def _place(self, event: Any, value: Tree) -> Path:
        """Put a value where it belongs and return its path."""
        if not self.stack:
            self.root = value
            self.values[()] = self._mark(event)
            return ()
        top = self.stack[-1]
        if isinstance(top.value, list):
            path: Path = (*top.path, len(top.value))
            if value is None:
                self.faults.append(
                    InputError(
                        "this entry of the list is empty",
                        place=self._at(event, path),
                        remedy="write a value after the dash, or remove the dash",
                    )
                )
            top.value.append(value)
        else:
            key = top.key or ""
            path = (*top.path, key)
            if not top.skip and value is not None:
                top.value[key] = value
            top.key = None
        self.values.setdefault(path, self._mark(event))
        if len(self.values) > VALUES_MAX:
            self._stop(event, f"more than {VALUES_MAX} values", "check that this is the right file")
        return path

    def _mark(self, event: Any) -> tuple[int, int]:
        return event.start_mark.line + 1, event.start_mark.column + 1

    def _at(self, event: Any, path: Path) -> Place:
        line, column = self._mark(event)
        return Place(self.file, line, column, key_path(path))

    def _stop(self, event: Any, message: str, remedy: str) -> None:
        """Refuse the whole document: what follows could not be read with any sense."""
        path = self.stack[-1].path if self.stack else ()
        raise InputError(message, place=self._at(event, path), remedy=remedy)
