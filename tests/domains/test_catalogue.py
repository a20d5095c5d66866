"""The catalogue: every domain loads from its real artefact, and holds what its entry says."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicit.domains import catalogue
from elicit.domains.artefacts import fetch
from elicit.domains.catalogue import describe, domain_names, load_catalogue
from elicit.domains.catalogue.facts import statements
from elicit.domains.domain import check_overlap
from elicit.errors import DomainError

# Small, so that tests with a cache of their own parse it again quickly.
SMALL = "facts/elements"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of parsed rows; the archive itself still comes from the user's cache."""
    archive = fetch(describe(SMALL).artefact)
    monkeypatch.setattr(catalogue, "fetch", lambda artefact: archive)
    monkeypatch.setenv("ELICIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_names() -> None:
    names = domain_names()
    assert len(names) == len(set(names))
    assert {"vader/movie", "vader/amazon", "vader/nyt", "vader/tweets", "injection", "agent/web-policy"} <= set(names)
    assert {"spam/sms", "sarcasm/headlines", "facts/countries", "facts/elements", "pyrit/refusal"} <= set(names)
    assert sum(name.startswith("pyrit/harm/") for name in names) == 8
    assert {"pyrit/harm", "pyrit/objective", "pyrit/objective/bias"} <= set(names)


@pytest.mark.parametrize("name", domain_names())
def test_domain_is_what_its_entry_says(name: str) -> None:
    entry, domain = describe(name), load_catalogue(name)
    counts = Counter(domain.labels)
    assert (domain.name, domain.question, domain.licence) == (name, entry.question, entry.licence)
    assert (counts[1], counts[0]) == (entry.flagged, entry.cleared)
    assert entry.rows == entry.flagged + entry.cleared
    # A text that people labelled both ways stands in the domain without a label; nothing else does.
    assert counts[None] == len(domain.contradicted) <= 2
    assert all(text.strip() for text in domain.texts)
    assert domain.sensitive == name.startswith("pyrit/")
    assert entry.question.text.endswith("?")
    assert entry.licence
    assert entry.notes
    assert domain.train.require_labels()
    assert set(domain.test.labels) >= {0, 1}


@pytest.mark.parametrize("name", ["vader/amazon", "vader/nyt"])
def test_snippets_of_one_review_are_a_group(name: str) -> None:
    domain = load_catalogue(name)
    assert all(group == own.partition("_")[0] for own, group in zip(domain.ids, domain.groups, strict=True))
    assert not set(domain.train.groups) & set(domain.test.groups)


def test_one_question_for_all_kinds_of_sentiment() -> None:
    assert len({describe(f"vader/{kind}").question for kind in ("movie", "amazon", "nyt", "tweets")}) == 1


def test_groups_of_harmful_rows_show_nothing_and_meet_across_families() -> None:
    harm, objective = load_catalogue("pyrit/harm"), load_catalogue("pyrit/objective")
    assert all(group is not None and len(group) == 16 and int(group, 16) for group in harm.groups + objective.groups)
    assert set(harm.groups) & set(objective.groups)
    with pytest.raises(DomainError, match=r"share 2\d\d texts"):
        check_overlap([harm], [objective])


def test_no_placeholder_gives_an_attack_away() -> None:
    assert not any("{canary}" in text for text in load_catalogue("injection").texts)


def test_policy_and_user_stand_before_the_model() -> None:
    domain = load_catalogue("agent/web-policy")
    assert all(f" {number}. " in domain.question.text for number in range(1, 7))
    assert all(text.startswith("User: age ") and "\nNext action: " in text for text in domain.texts)
    by_group = Counter(domain.groups)
    assert sum(count == 2 for count in by_group.values()) == 50


def test_facts_that_anyone_can_check() -> None:
    known = dict(zip(load_catalogue("facts/elements").texts, load_catalogue("facts/elements").labels, strict=True))
    known |= dict(zip(load_catalogue("facts/countries").texts, load_catalogue("facts/countries").labels, strict=True))
    for statement in (
        "The chemical symbol of gold is Au.",
        "The atomic number of carbon is 6.",
        "The capital of France is Paris.",
        "Kenya is in Africa.",
        "Internet addresses of Brazil end in .br",
    ):
        assert known[statement] == 1


@given(st.dictionaries(st.text(min_size=1), st.sampled_from("abcdef"), max_size=30))
def test_every_value_is_as_often_false_as_true(facts: dict[str, str]) -> None:
    rows = list(statements("kind", "{}\0{}", facts.items()))
    said = [(row.label, *row.text.rpartition("\0")[::2]) for row in rows]
    assert {(entity, value) for label, entity, value in said if label} == set(facts.items())
    assert all(facts[entity] != value for label, entity, value in said if not label)
    # With the order turned round the same rows come out.
    assert {row.text for row in statements("kind", "{}\0{}", reversed(facts.items()))} == {row.text for row in rows}
    # A value that more than half of the entities share leaves too few others to be mistaken for.
    counts = Counter(facts.values())
    if facts and max(counts.values()) <= len(facts) / 2:
        assert Counter(value for label, _, value in said if not label) == counts


def test_parsed_rows_are_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_catalogue(SMALL)
    assert [path.suffix for path in (own_cache / "domains").iterdir()] == [".parquet"]
    monkeypatch.setattr(catalogue, "fetch", None)  # the archive is no longer needed
    started = time.perf_counter()
    assert load_catalogue(SMALL) == first
    assert time.perf_counter() - started < 0.2


def test_damaged_rows_in_the_cache_are_parsed_again(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = load_catalogue(SMALL)
    (kept,) = (own_cache / "domains").iterdir()
    for damage in (b"", kept.read_bytes()[:-20], kept.read_bytes()[:300], b"garbage" * 99):
        kept.write_bytes(damage)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert load_catalogue(SMALL) == first
        assert len(caplog.records) == 1


def test_rows_of_another_version_are_not_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_catalogue(SMALL)
    entry = catalogue.Entry(**{**vars(describe(SMALL)), "version": 2})
    monkeypatch.setitem(catalogue._ENTRIES, SMALL, entry)
    load_catalogue(SMALL)
    assert len(list((own_cache / "domains").iterdir())) == 2


def test_rows_that_cannot_be_kept_still_load(own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    own_cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(load_catalogue(SMALL)) == 472
    assert "cannot keep" in caplog.text


@pytest.mark.parametrize(
    ("name", "close"), [("vader/amazn", "vader/amazon"), ("tweets", "vader/tweets"), ("x", "elicit domains")]
)
def test_unknown_name_gets_the_closest_ones(name: str, close: str) -> None:
    with pytest.raises(DomainError, match=close):
        load_catalogue(name)
