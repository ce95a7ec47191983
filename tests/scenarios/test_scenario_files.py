"""Strict validation: every slip in a file is an error with file, line and suggestion, before anything runs."""

from __future__ import annotations

import json

import pytest
import tiny
import yaml
from tiny import activity

from pytest_prodpatterns.scenarios import ScenarioError, load, packaged

OTHER = "pytest_prodpatterns.scenarios"


def provider(**changes):
    found = activity("act")
    return found | {"provider": found["provider"] | changes}


SLIPS = [
    (
        "rollback",
        lambda data: data.update(rollback=[]),
        "unknown key 'rollback' in a scenario; did you mean 'rollbacks'?",
    ),
    ("titel", lambda data: data.update(titel=data.pop("title")), "a scenario needs the key 'title'"),
    ("empty title", lambda data: data.update(title=" "), "'title' is a text, not ' '"),
    ("tags", lambda data: data.update(tags="breaker"), "'tags' is a list of words, not 'breaker'"),
    (
        "configuration",
        lambda data: data.update(configuration=[1]),
        "the configuration is a mapping, not a list",
    ),
    (
        "setting type",
        lambda data: data["configuration"]["seed"].update(type="evn"),
        "unknown type 'evn' of a setting; did you mean 'env'?",
    ),
    (
        "setting key",
        lambda data: data["configuration"]["seed"].update(defualt=0),
        "unknown key 'defualt' in the setting 'seed'; did you mean 'default'?",
    ),
    (
        "subject",
        lambda data: data["extensions"][0].update(subject="braeker"),
        "unknown subject 'braeker'; did you mean 'breaker'?",
    ),
    (
        "no extension",
        lambda data: data.update(extensions=[{"name": "x"}]),
        "no extension named 'prodpatterns': add",
    ),
    (
        "no prose",
        lambda data: data["extensions"][0].pop("explain"),
        "the extension 'prodpatterns' needs the key 'explain'",
    ),
    (
        "requires",
        lambda data: data["extensions"][0].update(requires="async"),
        "'requires' is a list of words, not 'async'",
    ),
    (
        "requirement",
        lambda data: data["extensions"][0].update(requires=["async", "thread"]),
        "unknown requirement 'thread'; did you mean 'threads'?",
    ),
    (
        "no control",
        lambda data: data.update(controls=[]),
        "the control of pytest-prodpatterns is missing: add",
    ),
    (
        "strategy",
        lambda data: data["runtime"]["rollbacks"].update(strategy="default"),
        "faults must be taken back whatever happens: write `runtime: {rollbacks: {strategy: always}}`",
    ),
    (
        "hypothesis strategy",
        lambda data: data["runtime"].update(hypothesis={"strategy": "after-method-only"}),
        "promises are asked before and after the method: leave the strategy of the hypothesis out",
    ),
    (
        "no promise",
        lambda data: data["steady-state-hypothesis"].update(probes=[]),
        "without a promise nothing decides the verdict: list one probe",
    ),
    (
        "no tolerance",
        lambda data: data["steady-state-hypothesis"]["probes"][0].pop("tolerance"),
        "the probe needs the key 'tolerance'",
    ),
    ("method", lambda data: data.update(method={}), "'method' is a list of actions, not a dict"),
    (
        "probe in the method",
        lambda data: data["method"].append(activity("entered", "probe", at_least=1)),
        "the method and the rollbacks act: expected type 'action', not 'probe'",
    ),
    (
        "background",
        lambda data: data["method"].append(activity("act") | {"background": True}),
        "'background' has no place where the target is a circuit breaker: start a task in an action instead",
    ),
    (
        "pauses",
        lambda data: data["method"].append(activity("act") | {"pauses": {"after": 1}}),
        "'pauses' has no place where the target is a circuit breaker: advance the clock instead",
    ),
    (
        "provider",
        lambda data: data["method"].append(provider(type="pyhton")),
        "unknown provider 'pyhton'; did you mean 'python'?",
    ),
    (
        "provider key",
        lambda data: data["method"].append(provider(function="act")),
        "unknown key 'function' in a python provider",
    ),
    (
        "module",
        lambda data: data["method"].append(provider(module="tinny")),
        "cannot import 'tinny': ModuleNotFoundError",
    ),
    (
        "function",
        lambda data: data["method"].append(provider(func="atc")),
        "tiny has no function 'atc'; did you mean 'act'?",
    ),
    (
        "async function",
        lambda data: data["method"].append(provider(func="in_vain")),
        "'in_vain' is async; the engine calls plain functions only",
    ),
    (
        "argument",
        lambda data: data["method"].append(activity("act", cals=1)),
        "act takes no argument 'cals'; did you mean 'calls'?",
    ),
    (
        "missing argument",
        lambda data: data["method"].append(activity("fail")),
        "fail needs the argument 'how'",
    ),
    (
        "placeholder",
        lambda data: data["method"].append(activity("act", calls="${taget}")),
        "${taget} is not in the configuration; did you mean 'target'?",
    ),
    (
        "reference",
        lambda data: data["method"].append({"ref": "actt"}),
        "no activity is named 'actt'; did you mean 'act'?",
    ),
    (
        "probe as action",
        lambda data: data["method"].append(provider(module=f"{OTHER}.probes.breaker")),
        f"{OTHER}.probes.breaker holds probes; actions are in {OTHER}.actions.breaker",
    ),
    (
        "tolerance of our probes",
        lambda data: data["steady-state-hypothesis"]["probes"][0].update(
            tolerance="held",
            provider={
                "type": "python",
                "module": f"{OTHER}.probes.breaker",
                "func": "dependency_entered",
                "arguments": {"phase": "x"},
            },
        ),
        "the tolerance of this probe is [held], not 'held'",
    ),
]


@pytest.mark.parametrize(("spoil", "text"), [slip[1:] for slip in SLIPS], ids=[slip[0] for slip in SLIPS])
def test_each_slip_is_told_with_its_file_and_line(tmp_path, spoil, text) -> None:
    data = tiny.experiment()
    spoil(data)
    path = tmp_path / "slip.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(ScenarioError) as caught:
        load(path)
    told = [problem for problem in caught.value.problems if problem.text.startswith(text)]
    assert told, str(caught.value)
    assert str(told[0]).startswith(f"{path}:{told[0].line}: ")


def test_a_problem_points_at_the_line_of_its_entry(tmp_path) -> None:
    path = tiny.write(tmp_path / "one.yaml", activity("act", cals=1))
    line = path.read_text().splitlines().index("      cals: 1") + 1
    with pytest.raises(ScenarioError, match=rf"^{path}:{line}: act takes no argument 'cals'"):
        load(path)


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(tmp_path) -> None:
    path = tiny.write(tmp_path / "one.yaml", activity("atc"), activity("act", cals=1), tags=3)
    with pytest.raises(ScenarioError) as caught:
        load(path)
    lines = [problem.line for problem in caught.value.problems]
    assert len(lines) == 3
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "a: [1\nb: 2\n", r"a\.yaml:\d: not YAML: .+"),
        ("a.json", '{"a": 1,}', r"a\.json:1: not JSON: .+"),
        ("a.yaml", "", r"a\.yaml:1: a scenario is a mapping of keys, not nothing"),
        ("a.yaml", "- 1\n", r"a\.yaml:1: a scenario is a mapping of keys, not a list"),
        (
            "a.yaml",
            "title: a\ntitle: b\n",
            r"(?s)a\.yaml:1: .*a\.yaml:2: the key 'title' stands twice in one mapping",
        ),
    ],
)
def test_a_file_that_is_no_scenario_at_all(tmp_path, name, text, told) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ScenarioError, match=told):
        load(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.yaml: cannot be read: .*No such file"):
        load(tmp_path / "none.yaml")


def test_json_is_as_good_as_yaml_with_lines_where_they_can_be_told(tmp_path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(tiny.experiment(), indent=2))
    assert load(path).title == "A tiny scenario"
    path.write_text(json.dumps(tiny.experiment(activity("atc")), indent="\t"))
    with pytest.raises(ScenarioError, match=r"one\.json:\d+: tiny has no function 'atc'"):
        load(path)


def test_the_engine_gets_a_copy_each_time(tmp_path) -> None:
    scenario = load(tiny.write(tmp_path / "one.yaml"))
    scenario.experiment()["method"].clear()
    assert scenario.experiment()["method"]


@pytest.mark.parametrize("name", packaged())
def test_every_packaged_scenario_is_valid_and_says_its_own_name(name) -> None:
    scenario = load(packaged()[name], name)
    assert scenario.identity == name
    assert name.startswith(f"{scenario.subject}/")
    assert len(scenario.explain.split()) > 15
    assert "\n" not in scenario.data["title"]


def test_a_packaged_scenario_with_another_name_is_refused() -> None:
    path = packaged()["breaker/recovers"]
    with pytest.raises(ScenarioError, match=r":\d+: this scenario's name is 'breaker/other': write"):
        load(path, "breaker/other")


NESTED = ["a0: &a0 [x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("itself.yaml", "title: x\nmethod: &all [*all]", r":2: an alias stands inside what it stands for$"),
        (
            "billions.yaml",
            "\n".join(NESTED),
            r":1: more than 100000 entries, with each alias as what it stands for$",
        ),
        ("deep.yaml", f"a: {'[' * 3000}{']' * 3000}", r":1: nested too deeply$"),
        ("deep.json", f"{'[' * 200_000}{']' * 200_000}", r":1: nested too deeply$"),
    ],
)
def test_a_file_without_an_end_is_refused(tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ScenarioError, match=message):
        load(tmp_path / name)
