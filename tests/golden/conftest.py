"""`--bless` writes what the program says now over what it is expected to say."""

from __future__ import annotations

import pytest


@pytest.fixture
def bless(request: pytest.FixtureRequest) -> bool:
    """Tell whether expectations are to be written anew."""
    return bool(request.config.getoption("--bless", default=False))
