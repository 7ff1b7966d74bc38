"""What the service manager is told, on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from balancer.service.readiness import STATUS_MAX, Manager


class Door:
    """The manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        texts: list[str] = []
        while True:
            try:
                texts.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return texts

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    name = f"@balancer-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "n")
    door = Door(name)
    yield door
    door.close()


def manager(door: Door, **more: str) -> Manager:
    return Manager({"NOTIFY_SOCKET": door.address, **more})


def test_each_state_in_the_protocols_words(door: Door) -> None:
    told = manager(door, WATCHDOG_USEC="30000000")
    told.ready()
    told.reloading(12.5)
    told.alive()
    told.patience(30)
    told.stopping()
    assert door.heard() == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=30000000",
        "STOPPING=1",
    ]


def test_a_status_is_one_line_sent_once_and_not_too_long(door: Door) -> None:
    told = manager(door)
    told.status("3 clusters\nREADY=1")
    told.status("3 clusters READY=1")
    told.status("x" * 1000)
    assert door.heard() == ["STATUS=3 clusters READY=1", "STATUS=" + "x" * STATUS_MAX]


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_signs_of_life_are_given_if_they_are_wanted_from_us(
    door: Door, environment: dict[str, str], seconds: float | None
) -> None:
    told = manager(door, **environment)
    assert told.watchdog_s == seconds
    told.alive()
    assert door.heard() == ([] if seconds is None else ["WATCHDOG=1"])


def test_telling_nobody_or_one_who_has_gone_does_no_harm(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        told = Manager(environment)
        told.ready()
        told.status("nobody hears it")
        told.stopping()
