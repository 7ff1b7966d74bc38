"""PowerShell sources as syntax trees, and the few questions the tests ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import tree_sitter
import tree_sitter_powershell

Node = tree_sitter.Node

FOLDER = files("balancer.gateway.hyperv") / "powershell"
MODULE = "HyperVBalancer.psm1"
SOURCES = (
    MODULE,
    "HyperVBalancer.psd1",
    "HyperVBalancer.pssc",
    "RoleCapabilities/HyperVBalancer.psrc",
)

_PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def read(name: str) -> str:
    return FOLDER.joinpath(*name.split("/")).read_text("utf-8")


def parse(source: str) -> Node:
    return _PARSER.parse(source.encode()).root_node


def text(node: Node) -> str:
    return (node.text or b"").decode()


def walk(node: Node) -> Iterator[Node]:
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(reversed(found.children))


def every(node: Node, kind: str) -> list[Node]:
    return [found for found in walk(node) if found.type == kind]


def inner(node: Node) -> Node:
    """Strip the expression levels that only wrap one node."""
    while node.named_child_count == 1 and node.type.endswith(("expression", "pipeline", "chain")):
        if node.type in {"parenthesized_expression", "cast_expression", "array_expression"}:
            break
        child = node.named_children[0]
        if text(child) != text(node):
            break
        node = child
    return node


@cache
def functions(root: Node) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for node in every(root, "function_statement"):
        name = next(text(child) for child in node.children if child.type == "function_name")
        assert name not in found, f"{name} is defined twice"
        found[name] = node
    return found


@dataclass(frozen=True)
class Call:
    """One command with its parameters; an argument is None for a switch."""

    name: str
    line: int
    arguments: dict[str, Node | None]
    positional: list[Node]
    node: Node = field(compare=False)

    @property
    def short(self) -> str:
        return self.name.rpartition("\\")[2]


def call(node: Node) -> Call:
    name = next((text(child) for child in node.children if child.type == "command_name"), "")
    arguments: dict[str, Node | None] = {}
    positional: list[Node] = []
    waiting = ""
    listing = False
    for child in (c for n in node.children if n.type == "command_elements" for c in n.children):
        if child.type == "command_argument_sep":
            continue
        if child.type == "command_parameter":
            waiting = text(child).lstrip("-")
            arguments[waiting] = None
        elif child.type == ",":
            listing = True
        elif waiting:
            arguments[waiting] = child
            waiting = ""
        elif listing:
            listing = False
        else:
            positional.append(child)
    return Call(name, node.start_point.row + 1, arguments, positional, node)


@cache
def calls(node: Node) -> list[Call]:
    return [call(found) for found in every(node, "command")]


def words(node: Node | None) -> list[str]:
    """The quoted strings below a node, without quotes."""
    if node is None:
        return []
    return [text(found)[1:-1] for found in every(node, "verbatim_string_characters")]


def keys(literal: Node) -> dict[str, Node]:
    """The entries of a hash literal, not of those inside it."""
    entries: dict[str, Node] = {}
    for body in (c for c in literal.children if c.type == "hash_literal_body"):
        for entry in (c for c in body.children if c.type == "hash_entry"):
            name = next(text(c) for c in entry.children if c.type == "key_expression")
            entries[name] = entry.children[-1]
    return entries


def objects(node: Node) -> list[dict[str, Node]]:
    """The [pscustomobject] literals below a node."""
    found = []
    for cast in every(node, "cast_expression"):
        if text(cast.children[0]).lower() == "[pscustomobject]":
            literals = every(cast, "hash_literal_expression")
            found.append(keys(literals[0]))
    return found


def parameters(function: Node) -> dict[str, str]:
    """A function's own parameters: name to the text of its declaration."""
    found = {}
    for node in every(function, "script_parameter"):
        variable = next(text(child) for child in node.children if child.type == "variable")
        found[variable.lstrip("$")] = text(node)
    return found


@cache
def module() -> Node:
    return parse(read(MODULE))


def chain(node: Node) -> tuple[Node, list[str]]:
    """A member access as the node it starts from and the names that follow."""
    names: list[str] = []
    while node.type in {"member_access", "invokation_expression"}:
        member = next(c for c in node.children if c.type == "member_name")
        names.insert(0, text(member))
        node = node.children[0]
    return node, names


def data(name: str) -> dict[str, Any]:
    """A data file (.psd1, .psrc, .pssc) as strings and lists of strings."""
    root = every(parse(read(name)), "hash_literal_expression")[0]
    values: dict[str, Any] = {}
    for key, value in keys(root).items():
        strings = words(value)
        values[key] = strings if text(value).startswith("@(") else next(iter(strings), text(value))
    return values
