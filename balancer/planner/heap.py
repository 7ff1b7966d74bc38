"""Memory that arrays have freed is kept for the next ones.

glibc gives what is free at the end of its heap back to the system once that is more than twice the
largest block freed so far, blocks above 32 MiB aside (mallopt(3), M_MMAP_THRESHOLD and
M_TRIM_THRESHOLD). Search frees a few megabytes with each step and needs them again in the next:
to have every page mapped and zeroed anew took as long as the arithmetic done in them.
"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 30 * 2**20


def keep_freed_memory() -> None:
    """Let the C library keep up to 60 MiB; the block that tells it so is never touched."""
    np.empty(BLOCK_BYTES, dtype=np.uint8)
