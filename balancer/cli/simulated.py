"""A simulated cluster behind real WinRM, with a configuration that reaches it like any other."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from balancer.clock import Clock
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.simulator.scenario import build
from balancer.gateway.simulator.script import load_scenario
from balancer.gateway.simulator.site import SimulatedSite
from balancer.gateway.simulator.world import World

USER = "CONTOSO\\balancer"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A site that is being served, and the configuration file that leads to it."""

    world: World
    site: SimulatedSite
    config: Path


@contextmanager
def serve(
    scenario: str, clock: Clock, directory: Path, *, seed: int, policy: Path | None = None
) -> Iterator[Simulated]:
    """Serve a scenario on loopback; configuration, password and policy go into `directory`.

    `scenario` is a name, or a file that describes one; then its own seed counts.

    Raises:
        InputError: There is no such scenario, or the file is wrong.
    """
    is_file = scenario.endswith((".yaml", ".yml"))
    world = load_scenario(scenario, clock) if is_file else build(scenario, clock, seed)
    with serve_world(world, directory, policy=policy) as simulated:
        yield simulated


@contextmanager
def serve_world(
    world: World, directory: Path, *, policy: Path | None = None
) -> Iterator[Simulated]:
    """Serve a world that is there already."""
    password = secrets.token_urlsafe(18)
    known = module_text()
    site = SimulatedSite(world, {USER: password}, accepts_module=lambda text: text == known)
    with site:
        (directory / "password").write_text(password, "utf-8")
        (directory / "password").chmod(0o600)
        chosen = policy.read_text("utf-8") if policy is not None else shipped_policy()
        (directory / "policy.yaml").write_text(chosen, "utf-8")
        config = directory / "balancer.yaml"
        config.write_text(_config(world, site), "utf-8")
        yield Simulated(world, site, config)


def shipped_policy() -> str:
    """Return policies/default.yaml, from the wheel or from the checkout."""
    packaged = resources.files("balancer") / "policies" / "default.yaml"
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (Path(__file__).parents[2] / "policies" / "default.yaml").read_text("utf-8")


def _config(world: World, site: SimulatedSite) -> str:
    """Return the YAML of a configuration; JSON strings are YAML strings too."""
    lines = ["version: 1", "clusters:", f"  - name: {json.dumps(world.name)}"]
    if world.cluster is None:
        lines.append("    standalone: true")
    lines += [f"    hosts: {json.dumps(list(site.endpoints))}", "    addresses:"]
    lines += [
        f"      {json.dumps(h)}: {json.dumps(f'{a}:{p}')}" for h, (a, p) in site.endpoints.items()
    ]
    lines += [
        "    policy: policy.yaml",
        "    connection:",
        f"      ca_file: {json.dumps(str(site.ca_file))}",
        f"      username: {json.dumps(USER)}",
        "      auth: ntlm",
        "      password_file: password",
    ]
    return "\n".join(lines) + "\n"
