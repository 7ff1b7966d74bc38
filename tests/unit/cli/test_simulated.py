from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from balancer.cli.simulated import serve, shipped_policy
from balancer.clock import VirtualClock
from balancer.config import config_schema, load_config, read_password
from balancer.policy.load import load_policy

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("scenario", ["branch", "standalone"])
def test_the_configuration_leads_to_the_site_and_holds_no_secret(
    tmp_path: Path, scenario: str
) -> None:
    with serve(scenario, VirtualClock(), tmp_path, seed=1) as simulated:
        config = load_config(simulated.config)
        part = config.cluster(None)
        password = read_password(config, part.connection)
        assert password
        assert password not in simulated.config.read_text("utf-8")
        assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
        assert part.standalone is (scenario == "standalone")
        assert set(part.addresses) == set(part.hosts) == set(simulated.site.endpoints)
        assert config.store == tmp_path / "balancer.sqlite"
        assert part.policy is not None
        assert load_policy(config.beside(part.policy)).transport.write_settings
        jsonschema.validate(
            json.loads(json.dumps(yaml.safe_load(simulated.config.read_text("utf-8")))),
            dict(config_schema()),
        )


def test_the_policy_of_simulated_sites_is_the_shipped_one() -> None:
    assert shipped_policy() == (ROOT / "policies" / "default.yaml").read_text("utf-8")
