"""What all tests share."""

from __future__ import annotations

import pytest
from hypothesis import is_hypothesis_test


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --bless, for tests/golden."""
    parser.addoption("--bless", action="store_true", help="rewrite the expected texts in golden/")


# A property goes through hundreds of examples. A timeout in the middle of one is to hypothesis an
# example that failed: it is tried again, does not fail, and is told as a flaky test or strategy.
# So only what hangs may meet it, and not what is slow beside others.
PROPERTY_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give properties more time than other tests have."""
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.function):
            item.add_marker(pytest.mark.timeout(PROPERTY_TIMEOUT_S))
