"""Plans: a `Plan` to `balancer/plan/v1` and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from balancer.errors import InputError, Place
from balancer.formats.plan_document import (
    PLAN_SCHEMA,
    EffectPart,
    LostPart,
    MigrationPart,
    NotMovedPart,
    PlanDocument,
    ScorePart,
    SettingPart,
    SleepPart,
    SurvivalPart,
    TierPart,
    UnresolvedPart,
)
from balancer.formats.strict import parse_json, utc, validated, write_json
from balancer.model.effect import Effect, End, Gain, Repair
from balancer.model.plan import (
    Lost,
    Migration,
    NotMoved,
    Plan,
    Score,
    SettingChange,
    Sleep,
    Survival,
    Tier,
    Unresolved,
)
from balancer.policy.faults import raised
from balancer.policy.quantities import shown
from balancer.policy.reading import name_of, read_bytes

WHAT = "plan"
BYTES_MAX = 128 * 2**20


def read_plan(path: Path | str) -> Plan:
    """Read the plan file at `path`; `-` is stdin.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    return parse_plan(read_bytes(path, BYTES_MAX, WHAT), name_of(path))


def parse_plan(document: str | bytes, file: str) -> Plan:
    """Read a plan from its text; `file` names it in errors.

    Raises:
        InputError: One fault, or an `InputErrorGroup` with all of them; each has a place.
    """
    tree = parse_json(document, file, WHAT)
    read = validated(tree, file, PlanDocument, PLAN_SCHEMA, WHAT)
    faults = [
        InputError(message, place=Place(file, key=key), remedy="make the plan again")
        for key, message in (*_faults_of_migrations(read), *_faults_of_times(read))
    ]
    if faults:
        raise raised(faults)
    return Plan(
        cluster=read.cluster,
        id=read.id,
        created_at=read.created_at,
        expires_at=read.expires_at,
        snapshot_sha256=read.snapshot_sha256,
        policy_sha256=read.policy_sha256,
        status=read.status,
        stopped_by=read.stopped_by,
        score=_score(read.score),
        makespan_s=read.makespan_s,
        makespan_bound_s=read.makespan_bound_s,
        migrations=tuple(_migration(part) for part in read.migrations),
        settings=tuple(SettingChange(**vars(part)) for part in read.settings),
        not_moved=tuple(NotMoved(**vars(part)) for part in read.not_moved),
        unresolved=tuple(Unresolved(**vars(part)) for part in read.unresolved),
        sleep=tuple(Sleep(**vars(part)) for part in read.sleep),
        survival=None if read.survival is None else _survival(read.survival),
    )


def _score(read: ScorePart) -> Score:
    return Score(**{**vars(read), "tiers": tuple(Tier(**vars(part)) for part in read.tiers)})


def _survival(read: SurvivalPart) -> Survival:
    lost = {
        key: Lost(**vars(part)) for key, part in vars(read).items() if isinstance(part, LostPart)
    }
    beyond = tuple(Unresolved(**vars(part)) for part in read.beyond_help)
    return Survival(**{**vars(read), **lost, "beyond_help": beyond})


def _migration(read: MigrationPart) -> Migration:
    effect = None if read.effect is None else _effect(read.effect)
    return Migration(**{**vars(read), "effect": effect})


def _effect(read: EffectPart) -> Effect:
    parts = {
        "repairs": tuple(Repair(**vars(part)) for part in read.repairs),
        "gains": tuple(Gain(**vars(part)) for part in read.gains),
        "ends": tuple(End(**vars(part)) for part in read.ends),
    }
    return Effect(**{**vars(read), **parts})


def _faults_of_migrations(read: PlanDocument) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what the migrations say of each other that cannot be."""
    ids = {part.id for part in read.migrations}
    seen: set[str] = set()
    for index, part in enumerate(read.migrations):
        if part.id in seen:
            yield f"migrations[{index}].id", f"the migration id {shown(part.id)} stands twice"
        seen.add(part.id)
        if part.source == part.target:
            yield f"migrations[{index}].target", f"source and target are both {shown(part.target)}"
        for unknown in (name for name in part.after if name not in ids):
            yield (
                f"migrations[{index}].after",
                f"the plan has no migration {shown(unknown)} to wait for",
            )
    waiting = _in_a_ring({part.id: part.after for part in read.migrations})
    if waiting:
        listed = ", ".join(shown(name) for name in waiting[:5])
        yield "migrations", f"migrations wait for each other in a ring: {listed}"


def _in_a_ring(after: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the ids that can never start because they wait for each other."""
    left = {name: {other for other in others if other in after} for name, others in after.items()}
    waiters: dict[str, list[str]] = {name: [] for name in left}
    for name, others in left.items():
        for other in others:
            waiters[other].append(name)
    ready = [name for name, others in left.items() if not others]
    while ready:
        ended = ready.pop()
        del left[ended]
        for name in waiters[ended]:
            left[name].discard(ended)
            if not left[name]:
                ready.append(name)
    return sorted(left)


def _faults_of_times(read: PlanDocument) -> Iterator[tuple[str, str]]:
    if read.expires_at < read.created_at:
        yield "expires_at", "the plan expires before it was made"


def plan_to_json(plan: Plan) -> str:
    """Return `plan` as a plan document: same plan, same bytes; it reads back equal."""
    score = _said(ScorePart, plan.score)
    score["tiers"] = [_said(TierPart, tier) for tier in plan.score.tiers]
    document: dict[str, Any] = {
        "schema": PLAN_SCHEMA,
        "cluster": plan.cluster,
        "id": plan.id,
        "created_at": utc(plan.created_at),
        "expires_at": utc(plan.expires_at),
        "snapshot_sha256": plan.snapshot_sha256,
        "policy_sha256": plan.policy_sha256,
        "status": plan.status,
        "stopped_by": plan.stopped_by,
        "migrations": [_said_of(migration) for migration in plan.migrations],
        "settings": [_said(SettingPart, part) for part in plan.settings],
        "not_moved": [_said(NotMovedPart, part) for part in plan.not_moved],
        "unresolved": [_said(UnresolvedPart, part) for part in plan.unresolved],
        "score": score,
        "makespan_s": plan.makespan_s,
        "makespan_bound_s": plan.makespan_bound_s,
    }
    if plan.sleep:
        document["sleep"] = [_said(SleepPart, part) for part in plan.sleep]
    if plan.survival is not None:
        document["survival"] = _said_of_survival(plan.survival)
    return write_json(document)


def _said_of(migration: Migration) -> dict[str, Any]:
    """Return a migration for its document; a plan made before there were effects has none."""
    said = _said(MigrationPart, migration)
    effect = said.pop("effect")
    return said if effect is None else {**said, "effect": asdict(effect)}


def _said_of_survival(survival: Survival) -> dict[str, Any]:
    """Return it for its document; in a plan made before losses were measured there are none."""
    said = _said(SurvivalPart, survival)
    beyond = [_said(UnresolvedPart, one) for one in said.pop("beyond_help")]
    said |= {"beyond_help": beyond} if beyond else {}
    said |= {"unseen": unseen} if (unseen := said.pop("unseen")) else {}
    lost = {key: one._asdict() for key, one in said.items() if isinstance(one, Lost)}
    return {
        key: value
        for key, value in {**said, **lost}.items()
        if value is not None or not key.startswith("lost_")
    }


def _said(part: type[BaseModel], noun: object) -> dict[str, Any]:
    """Return the fields of `noun` in the order of its part of the document."""
    return {name: getattr(noun, name) for name in part.model_fields}
