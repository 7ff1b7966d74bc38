"""Runs in the Python that ProxLB is installed for: a task as JSON in, a placement out."""

from __future__ import annotations

import importlib
import json
import logging
import math
import sys
from typing import Any

NO_PRESSURE = {
    "pressure_some_percent": 0.0,
    "pressure_full_percent": 0.0,
    "pressure_some_spikes_percent": 0.0,
    "pressure_full_spikes_percent": 0.0,
    "pressure_hot": False,
}
THOUSANDTHS = 1000  # the solver's processors are whole numbers


def main() -> None:
    task = json.load(sys.stdin)
    logging.disable(logging.CRITICAL)
    print(json.dumps(solved(task) if task["solver"] else decided(task)))


def decided(task: dict[str, Any]) -> dict[str, Any]:
    """Let the greedy balancer decide; its first moves, up to the cap."""
    data = importlib.import_module("proxlb.utils.proxlb_data").ProxLbData
    config = importlib.import_module("proxlb.utils.config_parser").Config
    work = importlib.import_module("proxlb.models.calculations").Calculations
    nodes, guests = _nodes(data, task), _guests(data, config, task)
    groups = importlib.import_module("proxlb.models.groups").Groups.get_groups(guests, nodes)
    meta = data.Meta(
        proxmox_api=config.ProxmoxAPI(hosts=[], user=""),
        cluster_non_pve9=False,
        balancing=data.Meta.Balancing(method=task["method"], balance_larger_guests_first=True),
    )
    all_of_it = data(guests=guests, ha_rules={}, nodes=nodes, pools={}, groups=groups, meta=meta)
    work.set_node_assignments(all_of_it)
    work.get_most_free_node(all_of_it)
    work.validate_affinity_map(all_of_it)
    work.get_balanciness(all_of_it)
    work.relocate_guests(all_of_it)
    affinity = all_of_it.groups.affinity.values()
    in_turn = sorted(affinity, key=lambda group: (group.counter, -group.memory.used))
    moved = [
        name
        for group in in_turn
        for name in group.guests
        if all_of_it.guests[name].node_target != all_of_it.guests[name].node_current
    ]
    place = {name: all_of_it.guests[name].node_target for name in moved[: task["cap"]]}
    return {"place": place, "end": f"{len(moved)} moves wanted"}


def _nodes(data: Any, task: dict[str, Any]) -> dict[str, Any]:
    load = {host["name"]: [0.0, 0.0] for host in task["hosts"]}
    for vm in task["vms"]:
        load[vm["host"]][0] += vm["cores"]
        load[vm["host"]][1] += vm["memory_bytes"]
    return {
        host["name"]: data.Node(
            name=host["name"],
            pve_version="9.1",
            pressure_hot=False,
            maintenance=False,
            cpu=_metric(data.Node.Metric, host["cores"], load[host["name"]][0]),
            memory=_metric(data.Node.Metric, host["memory_bytes"], load[host["name"]][1]),
            disk=_metric(data.Node.Metric, 1 << 40, 0.0),
        )
        for host in task["hosts"]
    }


def _metric(kind: Any, total: float, used: float) -> Any:
    share = 100 * used / total
    return kind(
        total=round(total),
        assigned=0,
        used=used,
        free=max(0.0, total - used),
        assigned_percent=0.0,
        free_percent=100 - share,
        used_percent=share,
        **NO_PRESSURE,
    )


def _guests(data: Any, config: Any, task: dict[str, Any]) -> dict[str, Any]:
    together = _sets(task["together"])
    apart = _sets([one["vms"] for one in task["apart"] if one["limit"] == 1])
    metric = data.Guest.Metric
    return {
        vm["id"]: data.Guest(
            name=vm["id"],
            id=number,
            cpu=metric(total=math.ceil(vm["cores"]), used=vm["cores"], **NO_PRESSURE),
            memory=metric(total=vm["memory_bytes"], used=vm["memory_bytes"], **NO_PRESSURE),
            disk=metric(total=0, used=0.0, **NO_PRESSURE),
            node_current=vm["host"],
            node_target=vm["host"],
            processed=False,
            pressure_hot=False,
            tags=[],
            pools=[],
            ha_rules=[],
            affinity_groups=together.get(vm["id"], []),
            anti_affinity_groups=apart.get(vm["id"], []),
            ignore=False,
            node_relationships=list(task["allowed"].get(vm["id"], ())),
            node_relationships_strict=True,
            type=config.GuestType.Vm,
        )
        for number, vm in enumerate(task["vms"], 100)
    }


def _sets(sets: list[list[str]]) -> dict[str, list[str]]:
    """Map each VM to the names of the sets it is in."""
    found: dict[str, list[str]] = {}
    for number, vms in enumerate(sets):
        for vm in vms:
            found.setdefault(vm, []).append(f"set-{number}")
    return found


def solved(task: dict[str, Any]) -> dict[str, Any]:
    """Let the solver decide, with CPU as important as memory."""
    kinds = importlib.import_module("proxlb_solver.models")
    rules = {
        "affinity": [
            {"name": f"together-{n}", "vms": vms, "hard": True}
            for n, vms in enumerate(task["together"])
        ],
        "anti_affinity": [
            {"name": f"apart-{n}", "vms": one["vms"], "hard": True}
            for n, one in enumerate(task["apart"])
            if one["limit"] == 1
        ],
        "pin": [{"vm": vm, "nodes": hosts} for vm, hosts in sorted(task["allowed"].items())],
    }
    cluster = kinds.Cluster(
        name="benchmark",
        description="",
        balancing=kinds.Balancing(
            method="global_smart",
            balanciness=4,
            cpu_overcommit=task["cpu_limit"],
            w_global_mem=10,
            w_global_cpu=10,
            w_global_io=0,
        ),
        nodes=[
            kinds.Node(
                name=host["name"],
                cpu_total=round(host["cores"] * THOUSANDTHS),
                memory_total=host["memory_bytes"],
                memory_reserve=round(host["memory_bytes"] * (1 - task["memory_limit"])),
            )
            for host in task["hosts"]
        ],
        vms=[
            kinds.VM(
                name=vm["id"],
                node=vm["host"],
                cpu=round(vm["cores"] * THOUSANDTHS),
                cpu_usage=vm["cores"] * THOUSANDTHS,
                memory=vm["memory_bytes"],
                priority=1,
            )
            for vm in task["vms"]
        ],
        constraints=kinds.Constraints(**rules),
        expect=kinds.Expect(),
    )
    solver = importlib.import_module("proxlb_solver.solver")
    found = solver.solve(cluster, time_limit_s=task["seconds"])
    if not found.feasible:
        return {"failed": found.stats.status}
    return {"place": found.placements, "end": found.stats.status}


if __name__ == "__main__":
    main()
