"""Ganeti's `hbal`, by its text backend, with instances on shared storage (disk template `ext`).

It balances free memory and the ratio of virtual to physical processors, each by its standard
deviation. What our VMs use of a host's CPU is given as processors, in thousandths, so that the
ratio is the utilisation; the limits of the default policy are given as its limit of that ratio
and as memory that the node keeps for itself, so that it moves nothing onto a host beyond them.
Sets to be apart are exclusion tags. Lists of hosts and sets to be together are not among its
rules: those VMs are left out of the run, which keeps the rules.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import measured
from benchmarks.peers.install import htools
from benchmarks.peers.neutral import CPU_LIMIT, MEMORY_LIMIT
from benchmarks.peers.task import Answer, FailedError, Task

MIB = 2**20
THOUSANDTHS = 1000
STEP = re.compile(r"^\s*\d+\. v(\d+)\s+h\d+\s+=> h(\d+)\s", re.MULTILINE)
SPEC_MIN, SPEC_MAX = "0,0,0,0,0,0", "99999999,99999999,99999999,99,99,99"
TEMPLATES = "diskless,file,sharedfile,plain,blockdev,drbd,rbd,ext"


class Hbal:
    """Ganeti's balancer: steepest descent, one move after another."""

    name = "hbal"
    expresses = "apart; VMs under other rules are left out"
    tells_all = False

    def balance(self, task: Task) -> Answer:
        """Run it until it finds no further step, has as many as the cap, or runs out of time."""
        program, libraries = htools()
        command = [str(program), "-l", str(task.cap), "--ignore-dynu", "--no-disk-moves"]
        command += ["--min-gain", "0", "--min-gain-limit", "0"]  # the cap is what ends it
        held = sorted(_held(task))
        if held:
            command.append("--exclude-instances=" + ",".join(f"v{at}" for at in held))
        environment = {"HTOOLS": "hbal", "LC_ALL": "C.UTF-8"}
        if libraries:
            environment["LD_LIBRARY_PATH"] = libraries
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "cluster.data"
            data.write_text(text_of(task), "utf-8")
            ran = measured.run(
                [*command, "-t", str(data)], limit_s=task.limit_s, environment=environment
            )
        if ran.status and not ran.cut:
            said = (ran.err or ran.out).strip()[-300:]
            raise FailedError(f"hbal ended with {ran.status}: {said}")
        steps = STEP.findall(ran.out)
        note = f"{len(steps)} steps"
        if ran.cut:
            note = f"stopped after {ran.wall_s:.0f} s: {len(steps)} of {task.cap} steps"
        return Answer(placed(task, steps), ran.cpu_s, ran.wall_s, note, finished=not ran.cut)


def placed(task: Task, steps: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return where VMs are after steps, each a VM's number and a host's."""
    place = dict(task.home)
    for vm, host in steps:
        place[task.cluster.vms[int(vm)].id] = task.cluster.hosts[int(host)].name
    return place


def _held(task: Task) -> set[int]:
    """Return the VMs under rules that it does not know."""
    number = {vm.id: at for at, vm in enumerate(task.cluster.vms)}
    rules = task.rules
    crowds = (vms for vms, limit in rules.apart if limit > 1)
    return {number[vm] for vms in (*crowds, *rules.together, rules.allowed) for vm in vms}


def text_of(task: Task) -> str:
    """Return the cluster as Ganeti's tools read it: five sections, names by number."""
    at = {host.name: number for number, host in enumerate(task.cluster.hosts)}
    load = [0] * len(at)
    tags: dict[str, list[str]] = {}
    for number, (crowd, limit) in enumerate(task.rules.apart):
        for name in crowd if limit == 1 else ():
            tags.setdefault(name, []).append(f"apart:{number}")
    instances: list[str] = []
    for number, vm in enumerate(task.cluster.vms):
        mib = vm.memory_assigned_bytes // MIB
        load[at[vm.host]] += mib
        processors = round(vm.cpu_used_cores * THOUSANDTHS)
        told = ",".join(tags.get(vm.id, ()))
        instances.append(f"v{number}|{mib}|0|{processors}|running|Y|h{at[vm.host]}||ext|{told}|0")
    nodes: list[str] = []
    for number, host in enumerate(task.cluster.hosts):
        mib = host.memory_bytes // MIB
        kept = round(mib * (1 - MEMORY_LIMIT))
        free = mib - kept - load[number]
        processors = round(host.cpu_cores * THOUSANDTHS)
        nodes.append(f"h{number}|{mib}|{kept}|{free}|1024|1024|{processors}|N|uuid|1||N|0|0|1.0")
    policy = f"{SPEC_MIN}|{SPEC_MIN};{SPEC_MAX}|{TEMPLATES}|{CPU_LIMIT}|32.0"
    sections = (
        ["group|uuid|preferred||"],
        nodes,
        instances,
        ["htools:iextags:apart"],
        [f"|{policy}", f"group|{policy}"],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"
