"""YAML documents typed by a model: policies, configuration, scenarios.

A model is a pydantic `Document` whose fields have the types of `balancer.policy.fields`; every
fault becomes an `InputError` with file, line, column, key and what to do about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from balancer.policy.faults import translate
from balancer.policy.reading import name_of, read_bytes
from balancer.policy.tree import BYTES_MAX, Places, parse_tree

M = TypeVar("M", bound=BaseModel)


def load_document(path: Path | str, model: type[M], what: str = "document") -> tuple[M, Places]:
    """Read the YAML file at `path` (`-` is stdin) into `model`.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    return parse_document(read_bytes(path, BYTES_MAX, what), name_of(path), model, what)


def parse_document(
    document: str | bytes, file: str, model: type[M], what: str = "document"
) -> tuple[M, Places]:
    """Read YAML text into `model`; `file` and `what` are for messages.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    tree, places = parse_tree(document, file, what)
    try:
        return model.model_validate(tree), places
    except ValidationError as error:
        raise translate(error, model, places.of) from error
