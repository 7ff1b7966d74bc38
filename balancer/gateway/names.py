"""When two names mean the same host, VM or counter instance. Windows ignores case everywhere."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

# Performance counters allow none of ()#/\ in an instance name and write [] and _ for them.
_IN_COUNTERS = str.maketrans({"(": "[", ")": "]", "#": "_", "/": "_", "\\": "_"})


@lru_cache(maxsize=4096)  # a sweep asks for the same few names hundreds of thousands of times
def host_key(name: str) -> str:
    """Return what `HV01`, `hv01` and `hv01.contoso.com` have in common; addresses stay whole."""
    folded = name.strip().casefold()
    try:
        return str(ipaddress.ip_address(folded.strip("[]")))
    except ValueError:
        return folded.rstrip(".").partition(".")[0]


def id_key(identifier: str) -> str:
    """Return a GUID without the braces that some classes write, in lower case."""
    return identifier.strip().strip("{}").casefold()


def counter_key(vm_name: str) -> str:
    """Return a VM's name as performance counters would show it, in lower case."""
    return vm_name.translate(_IN_COUNTERS).casefold()
