"""Runs in the Python that `rebalancer` is installed for: a task as JSON in, a placement out."""

from __future__ import annotations

import importlib
import json
import sys
from itertools import pairwise
from typing import Any

GIB = 2**30
EVERYTHING = 1_000_000
# The installed version takes enumerations by number, whatever its type hints say.
ABSOLUTE, RELATIVE = 1, 2  # LimitType
MAX, MIN = 1, 2  # CapacitySpecBound
VARIANCE, RELATIVE_UTIL = 6, 3  # BalanceSpecFormula, BalanceSpecBoundType
HIGHS = 2  # OptimalSolverPackage
ENDS = {1: "optimal", 2: "time limit", 6: "no solution", 9: "nothing more"}  # EndReason


def main() -> None:
    task = json.load(sys.stdin)
    solver = importlib.import_module("rebalancer").ProblemSolver(
        service_name="benchmark", service_scope="peers"
    )
    solver.set_log_level("ERROR")
    _describe(solver, task)
    _forbid(solver, task)
    _want(solver, task)
    solver.add_solver(_engine(task))
    found = solver.solve()
    ends = [one.get("endReason", 0) for one in found.get("solverSummaries", ())]
    said = ", ".join(ENDS.get(end, f"end reason {end}") for end in ends)
    print(json.dumps({"place": found["assignment"], "end": said}))


def _describe(solver: Any, task: dict[str, Any]) -> None:
    """Tell hosts, VMs, where they are, and what they need and have."""
    at: dict[str, list[str]] = {host["name"]: [] for host in task["hosts"]}
    for vm in task["vms"]:
        at[vm["host"]].append(vm["id"])
    solver.set_object_name("vm").set_container_name("host").set_assignment(at)
    for name, key in (("cpu", "cores"), ("memory", "memory_bytes")):
        unit = GIB if key == "memory_bytes" else 1
        solver.add_object_dimension(name, {vm["id"]: vm[key] / unit for vm in task["vms"]})
        solver.add_container_dimension(name, {h["name"]: h[key] / unit for h in task["hosts"]})
    mean_gib = sum(host["memory_bytes"] for host in task["hosts"]) / GIB / len(task["hosts"])
    solver.add_object_dimension(
        "cost",
        {
            vm["id"]: task["move_cost"] * (vm["memory_bytes"] / GIB + 2) / mean_gib
            for vm in task["vms"]
        },
    )
    solver.add_similar_containers([list(at)])


def _forbid(solver: Any, task: dict[str, Any]) -> None:
    """Tell what may not be: more moves than the cap, hosts beyond their limits, broken rules."""
    spec = _spec("cap", "vm_count", doNotNormalize=True, allowance=task["cap"])
    solver.add_constraint({"minimizeMovementSpec": spec})
    for name in ("cpu", "memory"):
        limit = {"type": RELATIVE, "globalLimit": task[f"{name}_limit"]}
        spec = _spec(name, name, limit=limit)
        solver.add_constraint(
            {"capacitySpec": spec}, invalid_cost=1.0, invalid_state=0.0, tuple_pos_if_broken=0
        )
    if task["apart"]:
        sets = {f"apart {n}": one["vms"] for n, one in enumerate(task["apart"])}
        limits = {f"apart {n}": one["limit"] for n, one in enumerate(task["apart"])}
        _partition(solver, task, "apart", sets)
        limit = {"type": ABSOLUTE, "groupLimits": limits, "isDefaultLimitUnbounded": True}
        spec = _spec("apart", partitionName="apart", limit=limit)
        solver.add_constraint({"groupCountSpec": spec})
    if task["together"]:
        sets = {f"together {n}": vms for n, vms in enumerate(task["together"])}
        _partition(solver, task, "together", sets)
        limit = {
            "type": ABSOLUTE,
            "groupLimits": dict.fromkeys(sets, 1),
            "isDefaultLimitUnbounded": True,
        }
        spec = _spec("together", partitionName="together", limits=limit)
        solver.add_constraint({"colocateGroupsSpec": spec})
    names = [host["name"] for host in task["hosts"]]
    never = [
        {"object": vm, "scopeItems": sorted(set(names) - set(hosts))}
        for vm, hosts in sorted(task["allowed"].items())
    ]
    if never:
        spec = _spec("lists", assignments=never)
        solver.add_constraint({"avoidAssignmentsSpec": spec})


def _partition(solver: Any, task: dict[str, Any], name: str, sets: dict[str, list[str]]) -> None:
    """Tell sets of VMs; all others are one set more, of which nothing is said."""
    inside = {vm for vms in sets.values() for vm in vms}
    rest = [vm["id"] for vm in task["vms"] if vm["id"] not in inside]
    solver.add_partition(name, {**sets, "rest": rest})


def _want(solver: Any, task: dict[str, Any]) -> None:
    """Tell what is to be small: overload first, then our score."""
    for name, key in (("cpu", "cores"), ("memory", "memory_bytes")):
        limit = {"type": RELATIVE, "globalLimit": task[f"{name}_limit"]}
        spec = _spec(f"{name} over", name, limit=limit)
        solver.add_goal({"capacitySpec": spec}, 1.0, 0)
        if task["goal"] == "parabola":
            spec = _spec(
                f"{name} even", name, formula=VARIANCE, upperBound=0.0, boundType=RELATIVE_UTIL
            )
            solver.add_goal({"balanceSpec": spec}, 1.0, 1)
            continue
        mean = sum(vm[key] for vm in task["vms"]) / sum(host[key] for host in task["hosts"])
        for at, step, slope in _pieces(task["tangents"]):
            for bound, limit_at in ((MAX, mean + step), (MIN, mean - step)):
                if limit_at <= 0:
                    continue
                limit = {"type": RELATIVE, "globalLimit": limit_at}
                spec = _spec(f"{name} {bound} {at}", name, bound=bound, limit=limit)
                solver.add_goal({"capacitySpec": spec}, slope, 1)
    spec = _spec("cost", "cost", doNotNormalize=True)
    solver.add_goal({"minimizeMovementSpec": spec}, 1.0, 1)
    if price := task.get("price", 0.0):
        spec = _spec("price", "vm_count", doNotNormalize=True)
        solver.add_goal({"minimizeMovementSpec": spec}, price, 1)


def _spec(name: str, dimension: str = "", **fields: Any) -> dict[str, Any]:
    """Return a specification over hosts."""
    about = {"dimension": dimension} if dimension else {}
    return {"name": name, "scope": "host", **about, **fields}


def _pieces(tangents: list[float]) -> list[tuple[int, float, float]]:
    """Return where the slope of our unevenness rises, and by how much."""
    pairs = pairwise(tangents)
    return [(n, (low + high) / 2, 2 * (high - low)) for n, (low, high) in enumerate(pairs)]


def _engine(task: dict[str, Any]) -> dict[str, Any]:
    seconds = max(1, round(task["seconds"]))
    spec: dict[str, Any]
    if not task["moves"]:
        spec = {"solverPackage": HIGHS, "solveTime": seconds, "suppressLogs": True}
        return {"optimalSolverSpec": spec}
    return {
        "localSearchSolverSpec": {
            "moveTypeList": task["moves"],
            "solveTime": seconds,
            "randomSeed": task["seed"],
            "minHotObjects": task.get("hot", EVERYTHING),
            "stratifiedSampleSize": task.get("sample", 10),
        }
    }


if __name__ == "__main__":
    main()
