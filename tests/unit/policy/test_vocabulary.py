"""Rules as they are written: what is derived from the kinds, and there and back."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.load import parse_policy
from balancer.policy.rules import KINDS
from balancer.policy.vocabulary import field_docs, rule_to_dict, written_fields

WORD = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12
).filter(lambda text: text.strip() != "")  # fmt: skip
ANY_WAY = [way for way in SelectBy if way is not SelectBy.PRIORITY]
VMS = st.lists(
    st.builds(Selector, st.sampled_from(ANY_WAY), WORD)
    | st.builds(Selector, st.just(SelectBy.PRIORITY), st.sampled_from(["high", "low", "none"])),
    min_size=1,
    max_size=4,
).map(tuple)
HOSTS = st.lists(
    st.builds(Selector, st.sampled_from([SelectBy.EXACT, SelectBy.GLOB, SelectBy.HOST]), WORD),
    min_size=1,
    max_size=3,
).map(tuple)


VALUES: dict[object, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(1, 99),
    int | None: st.none() | st.integers(1, 99),
    str: WORD,
}
OWN_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "vms": VMS,
    "hosts": HOSTS,
    "name": st.just("") | WORD,
}


SAID_BY_CLUSTERS = sorted(name for name, kind in KINDS.items() if not kind.policy_only)


@st.composite
def rules(draw: st.DrawFn, origin: str = "") -> Rule:
    kind = KINDS[draw(st.sampled_from(SAID_BY_CLUSTERS))]
    hints = get_type_hints(kind)
    fields = {
        field.name: draw(OWN_VALUES.get(field.name, VALUES.get(hints[field.name], st.nothing())))
        for field in written_fields(kind)
    }
    return kind(**fields, origin=origin)


@given(rules(origin="p.yaml:2"))
def test_a_rule_written_as_yaml_reads_back_equal(rule: Rule) -> None:
    written = yaml.safe_dump(rule_to_dict(rule), default_flow_style=True, width=10**9)
    text = f"version: 1\nrules: [{written.strip()}]"
    assert parse_policy(text, "p.yaml").rules == (rule,)


@given(rules())
def test_a_rule_is_written_with_plain_values_that_say_something(rule: Rule) -> None:
    written = rule_to_dict(rule)[rule.kind]
    assert yaml.safe_load(yaml.safe_dump(written)) == written
    defaults = {field.name: field.default for field in written_fields(type(rule))}
    assert all(value != defaults[name] for name, value in written.items())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_key_of_every_kind_is_documented(name: str) -> None:
    docs = field_docs(KINDS[name])
    assert {field.name for field in written_fields(KINDS[name])} <= docs.keys()
    assert all(len(text) > 15 for text in docs.values())
