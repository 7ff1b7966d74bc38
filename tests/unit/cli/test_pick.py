from __future__ import annotations

import dataclasses

import pytest

from balancer.cli.pick import pick_host, pick_vm
from balancer.errors import InputError
from balancer.model.cluster import Cluster
from tests.notation import cluster

SEEN = cluster("""
hv01.corp.example 64G: web 4G, db 4G
hv02.corp.example 64G: old 4G
HV3 64G:
hv3.corp.example 64G:
""")


def named(seen: Cluster, **names: str) -> Cluster:
    vms = tuple(dataclasses.replace(vm, name=names.get(vm.id, vm.name)) for vm in seen.vms)
    return dataclasses.replace(seen, vms=vms)


def test_an_id_comes_before_a_name_and_case_does_not_matter() -> None:
    seen = named(SEEN, web="db", db="other")
    assert pick_vm(seen, "DB").id == "db"
    assert pick_vm(seen, "Other").id == "db"


def test_a_name_that_several_have_is_refused_with_their_ids_and_hosts() -> None:
    with pytest.raises(InputError, match=r"(?s)web on hv01.*old on hv02.*give the id") as told:
        pick_vm(named(SEEN, web="same", old="same"), "SAME")
    assert told.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "w*", "web ", "'; Stop-Computer #", "[a-z]*"])
def test_nothing_is_expanded_or_guessed(text: str) -> None:
    with pytest.raises(InputError, match="no VM"):
        pick_vm(SEEN, text)
    assert pick_vm(SEEN, text, or_none=True) is None


def test_what_a_narrow_locale_made_of_a_name_still_finds_it() -> None:
    typed = "ü漢".encode().decode("ascii", "surrogateescape")
    assert pick_vm(named(SEEN, web="ü漢"), typed).id == "web"


def test_a_host_is_found_by_its_name_or_by_a_short_name_that_only_one_has() -> None:
    assert pick_host(SEEN, "HV02").name == "hv02.corp.example"
    assert pick_host(SEEN, "hv3").name == "HV3"
    assert pick_host(SEEN, "HV3.corp.example").name == "hv3.corp.example"
    with pytest.raises(InputError, match="the hosts are: hv01"):
        pick_host(SEEN, "hv")
