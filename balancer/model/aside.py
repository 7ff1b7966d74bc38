"""What failed before and is set aside for a while: a VM, a way, a source or a target."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class About(StrEnum):
    """What a failure is put down to."""

    WAY = "way"  # this VM from this source to this target; the way back may well work
    VM = "vm"
    PAIR = "pair"  # every VM from this source to this target
    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Aside:
    """Something set aside. Empty words mean "any".

    Attributes:
        vm: Id of the VM; `name` is what people call it.
        failures: How often it has failed since it last went well.
        code: HRESULT of the last failure, unsigned, else None.
    """

    cluster: str
    vm: str
    name: str
    source: str
    target: str
    since: datetime
    until: datetime
    failures: int
    code: int | None
    reason: str

    @property
    def about(self) -> About:
        """Return what is set aside."""
        if self.vm:
            return About.WAY if self.target else About.VM
        if self.source and self.target:
            return About.PAIR
        return About.SOURCE if self.source else About.TARGET

    @property
    def label(self) -> str:
        """Return what is set aside, in words."""
        match self.about:
            case About.WAY:
                return f"{self.name} from {self.source} to {self.target}"
            case About.VM:
                return self.name
            case About.PAIR:
                return f"anything from {self.source} to {self.target}"
            case About.SOURCE:
                return f"anything from {self.source}"
            case About.TARGET:
                return f"anything to {self.target}"

    def covers(self, vm: str, source: str, target: str) -> bool:
        """Tell whether a migration is one of those that are set aside."""
        asked = ((self.vm, vm), (self.source, source), (self.target, target))
        return all(mine in ("", theirs) for mine, theirs in asked)

    def __str__(self) -> str:
        """Return until when and why, as the end of a sentence."""
        return f"set aside until {self.until:%Y-%m-%d %H:%M} UTC: {self.reason}"
