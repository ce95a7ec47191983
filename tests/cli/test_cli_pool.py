"""The commands with the subject `pool`, whose targets live in processes of their own."""

from __future__ import annotations

import json

import pytest

from pytest_prodpatterns.cli import main
from pytest_prodpatterns.scenarios import packaged


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run the command in this process; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


def verdicts(document):
    return {entry["name"]: entry["verdict"] for entry in json.loads(document)["scenarios"]}


def test_pools_are_listed_and_explained(call):
    names = [line.split()[0] for line in call("list", "pool")[1].splitlines()]
    assert names == [name for name in packaged() if name.startswith("pool/")]
    assert "pool: ours, ppe-fork" in call("list", "--targets")[1]
    text = call("explain", "pool/storm")[1]
    assert text.startswith("Two hundred kills lose nothing")
    assert "Subject: pool" in text


def test_scenarios_run_in_one_process_or_several_with_the_same_verdicts(call):
    words = (
        "run",
        "pool/os-exit",
        "pool/unpicklable-result",
        "pool/queue-full-blocks",
        "--seed",
        "7",
        "--json",
    )
    code, out, _ = call(*words, "--target", "ppe-fork")
    assert (code, verdicts(out)) == (
        1,
        {
            "pool/os-exit": "deviated",
            "pool/unpicklable-result": "held",
            "pool/queue-full-blocks": "not applicable",
        },
    )
    assert verdicts(call(*words, "--target", "ppe-fork", "-j", "3")[1]) == verdicts(out)
    assert set(verdicts(call(*words, "-j", "3")[1]).values()) == {"held"}


def test_a_factory_of_the_user_is_checked(call, tmp_path):
    (tmp_path / "workers_of_mine.py").write_text(
        "import concurrent.futures\n\n"
        "def make_executor(*, max_workers):\n"
        "    return concurrent.futures.ProcessPoolExecutor(max_workers)\n"
    )
    code, out, err = call(
        "run", "pool/sys-exit-in-task", "pool/initializer-fails", "--target", "workers_of_mine:make_executor"
    )
    assert code == 0, err
    assert "workers_of_mine:make_executor takes no initializer and initargs" in out


def test_without_names_only_the_scenarios_of_subjects_that_have_the_target_run(call):
    code, out, _ = call("run", "--target", "circuitbreaker", "--json")
    assert code == 1
    assert set(verdicts(out)) == {name for name in packaged() if name.startswith("breaker/")}


def test_a_pool_that_does_not_exist_is_refused_with_a_hint(call):
    code, _, err = call("check", "pool", "ppe-frok")
    assert code == 2
    assert "unknown pool 'ppe-frok', did you mean 'ppe-fork'?" in err
