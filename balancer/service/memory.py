"""What has been told of one cluster, so that each change is told once, and by one of a fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from balancer.store.known import Knowledge, Known


class Memory:
    """Remembers for one process, or in the store for all who visit the cluster in turn."""

    def __init__(self, cluster: str, shared: Knowledge | None = None) -> None:
        self.known = Known(cluster)
        self._shared = shared

    def recall(self) -> None:
        """Take over what others have found since."""
        if self._shared is not None:
            self.known = self._shared.of(self.known.cluster)

    def note(self, **changes: Any) -> None:
        """Remember something else from here on, by the names of `Known`."""
        before, self.known = self.known, replace(self.known, **changes)
        if self._shared is not None and self.known != before:
            self._shared.put(self.known)
