"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bless, for tests/golden."""
    parser.addoption("--bless", action="store_true", help="rewrite the expected texts in golden/")
