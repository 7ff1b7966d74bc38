"""From the configuration to a gateway: what is refused before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from balancer.clock import VirtualClock
from balancer.config import load_config
from balancer.connect import connect
from balancer.errors import InputError

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
