"""Single VMs: whatever they are called, the one that was meant moves, and nothing else."""

from __future__ import annotations

import pytest

from balancer.gateway.simulator.scenario import FOREIGN_NAME, HOSTILE_NAME, REPEATED_NAME
from tests.e2e.conftest import Serve


def test_vms_with_every_kind_of_name_are_moved(serve: Serve) -> None:
    site = serve("demo", "--speed", 50)
    before = {vm["id"]: vm for vm in site("observe", "--json").document["vms"]}

    by_name = site("move", HOSTILE_NAME, "--to", "hv08", "--json")
    assert by_name.code == 0, by_name.stderr
    assert site("move", FOREIGN_NAME).code == 0

    ambiguous = site("move", REPEATED_NAME.upper(), "--to", "HV08")
    namesakes = sorted(id_ for id_, vm in before.items() if vm["name"] == REPEATED_NAME)
    assert ambiguous.code == 2
    assert len(namesakes) == 2
    assert all(id_ in ambiguous.stderr for id_ in namesakes)
    chosen = namesakes[0]
    assert site("move", chosen, "--to", "HV08").code == 0

    after = {vm["id"]: vm["host"] for vm in site("observe", "--json").document["vms"]}
    moved = {id_ for id_, host in after.items() if before[id_]["host"] != host}
    assert moved == {
        chosen,
        *(id_ for id_, vm in before.items() if vm["name"] in (HOSTILE_NAME, FOREIGN_NAME)),
    }
    assert {after[id_] for id_ in moved if before[id_]["name"] != FOREIGN_NAME} == {"HV08"}


def test_what_stands_against_a_move_is_told_and_nothing_moves(serve: Serve) -> None:
    site = serve("demo")
    vms = site("observe", "--json").document["vms"]
    blocked = next(vm for vm in vms if vm.get("blocked_by"))

    refused = site("move", blocked["id"], "--to", "HV08", "--json")
    assert refused.code == 3
    assert refused.stdout == ""
    assert "cannot move" in refused.stderr

    asked = site("explain", "--why-not", f"{blocked['id']}:HV08", "--json")
    assert asked.code == 0
    assert asked.document["against"]["HV08"]
    assert site("move", "no such vm").code == 2
    assert site("move", blocked["id"], "--to", "HV99").code == 2

    ranked = site("place", "--cpu", "2", "--memory", "16 GiB", "--json").document["hosts"]
    assert ranked[0]["obstacle"] == ""
    assert {each["host"] for each in ranked} == {f"HV0{number}" for number in range(1, 9)}
    assert site("place", "--cpu", "2", "--memory", "4 TiB").code == 3


@pytest.mark.parametrize("to", ["HV08", "best"])
def test_a_dry_run_moves_nothing(serve: Serve, to: str) -> None:
    site = serve("demo")
    where = site.host_of(HOSTILE_NAME)
    dry = site("move", HOSTILE_NAME, "--to", to, "--dry-run", "--json")
    assert [each["name"] for each in dry.document["migrations"]] == [HOSTILE_NAME]
    assert site.host_of(HOSTILE_NAME) == where
