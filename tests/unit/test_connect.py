"""From the configuration to a gateway: what is refused before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.config import load_config
from balancer.connect import connect
from balancer.errors import InputError
from balancer.gateway.simulator.winrm import Authority

CONFIG = """\
version: 1
clusters:
  - name: BRANCH
    hosts: [hv01.a.example, hv01.b.example]
    standalone: {standalone}
"""


def test_stand_alone_hosts_of_one_computer_name_are_not_taken_for_each_other(
    tmp_path: Path,
) -> None:
    path = tmp_path / "balancer.yaml"
    path.write_text(CONFIG.format(standalone="true"))
    config = load_config(path)
    with pytest.raises(InputError, match="same computer name"):
        connect(config, config.cluster(None), VirtualClock())
    path.write_text(CONFIG.format(standalone="false"))  # one node, named twice
    config = load_config(path)
    connect(config, config.cluster(None), VirtualClock()).close()


def test_a_file_of_authorities_that_is_none_is_named_before_anything_is_connected(
    tmp_path: Path,
) -> None:
    path = tmp_path / "balancer.yaml"
    path.write_text(
        CONFIG.format(standalone="false") + "    connection: {ca_file: authority.pem}\n"
    )
    config = load_config(path)
    with pytest.raises(InputError, match=r"authority\.pem: No such file") as missing:
        connect(config, config.cluster(None), VirtualClock())
    assert "ca_file" in str(missing.value)
    (tmp_path / "authority.pem").write_text("a word")
    with pytest.raises(InputError, match="no certificate"):
        connect(config, config.cluster(None), VirtualClock())
    Authority(tmp_path / "authority.pem")
    connect(config, config.cluster(None), VirtualClock()).close()
