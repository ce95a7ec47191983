"""Which words select which scenarios, and where the packaged ones are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from pytest_prodpatterns.scenarios import ScenarioError, _catalogue, get, packaged, select


def names(*words, tags=()):
    return [scenario.name for scenario in select(words, tags)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["breaker/recovers"], ["breaker/recovers"]),
        (["breaker/wall-*"], ["breaker/wall-clock-back", "breaker/wall-clock-forward"]),
        (["breaker/recovers", "breaker/r*"], ["breaker/recovers", "breaker/rejects-while-open"]),
    ],
)
def test_words_select_by_name_and_glob_each_once(words, found) -> None:
    assert names(*words) == found


def test_nothing_and_the_subject_select_all_breaker_scenarios() -> None:
    assert names() == list(packaged())
    assert names("breaker") == [name for name in packaged() if name.startswith("breaker/")]


def test_a_tag_selects_and_narrows() -> None:
    tagged = [name for name in packaged() if "recovery" in get(name).tags]
    assert tagged
    assert names("recovery") == names(tags=["recovery"]) == tagged


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (["recovers"], (), r"^no scenario is called 'recovers'.*; did you mean 'breaker/recovers'\?$"),
        (
            ["breaker/recover"],
            (),
            r"^no scenario is called 'breaker/recover'.*; did you mean 'breaker/recovers'\?$",
        ),
        (["breaker"], ["nosuch"], r"^no scenario carries the tag nosuch; known: .*\bbreaker\b"),
        (["missing.yaml"], (), r"^missing\.yaml: cannot be read"),
    ],
)
def test_a_word_that_selects_nothing_is_an_error_with_a_suggestion(words, tags, message) -> None:
    with pytest.raises(ScenarioError, match=message):
        select(words, tags)


def test_the_problems_of_all_selected_files_are_told_at_once(tmp_path) -> None:
    files = [str(tiny.write(tmp_path / name, tags=3)) for name in ("a.yaml", "b.yaml")]
    with pytest.raises(ScenarioError, match=r"(?s)a\.yaml:\d+: .*\n.*b\.yaml:\d+: "):
        select(files)


def test_the_wheel_s_copy_is_preferred_to_the_checkout_s(tmp_path, monkeypatch) -> None:
    assert _catalogue.root() == Path(_catalogue.__file__).parents[2] / "scenarios"
    (tmp_path / "packaged").mkdir()
    monkeypatch.setattr(_catalogue, "_HERE", tmp_path)
    assert _catalogue.root() == tmp_path / "packaged"
