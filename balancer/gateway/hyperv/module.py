"""Our PowerShell module, for those who send it to a host and for those who are sent it.

Not in `remote`, which brings the whole client with it: a quarter of a second of imports.
"""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def module_text() -> str:
    """Return the source of our PowerShell module as it is shipped."""
    package = resources.files("balancer.gateway.hyperv")
    return (package / "powershell" / "HyperVBalancer.psm1").read_text("utf-8-sig")
