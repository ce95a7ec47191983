"""What the promises of a pool make of a history, told event by event."""

from __future__ import annotations

import pytest
from scenarios.small_pool import SERVICE, SmallTarget

from pytest_prodpatterns.lab import ChaosLab, emit
from pytest_prodpatterns.lab._timeline import Event
from pytest_prodpatterns.scenarios import NotInjected, Run
from pytest_prodpatterns.scenarios._run import set_current
from pytest_prodpatterns.scenarios.actions import pool as actions
from pytest_prodpatterns.scenarios.probes import pool as probes


@pytest.fixture
def attack(monkeypatch):
    """Begin a run against a target; it ends with the test."""
    monkeypatch.setattr("pytest_prodpatterns.targets.pool._driver.SERVICE", SERVICE)
    lab = ChaosLab(7, "attack")
    with lab:
        try:

            def begin(target):
                run = Run(name="attack", subject="pool", target=target, lab=lab)
                set_current(run)
                runs.append(run)
                return run

            runs = []
            yield begin
        finally:
            for run in runs:
                run.stack.close()
            set_current(None)


@pytest.fixture
def run(attack):
    return attack(SmallTarget(lacks=("retry",)))


def made(call, phase="p"):
    emit("caller:work", "called", call=call, phase=phase)
    emit("caller:work", "accepted", call=call, phase=phase, took=0.0)


def entered(run, call, pid=1, kind="entered", phase="p"):
    attributes = {"call": call, "phase": phase, "pid": pid}
    run.lab.timeline.adopt(Event(0, 0.0, 0.0, pid, "", "dependency:work", kind, attributes))


def returned(call, outcome="ok", phase="p", **details):
    emit(
        "caller:work",
        "returned",
        call=call,
        phase=phase,
        outcome=outcome,
        took=0.0,
        where="result",
        **details,
    )


def whole(run, call, pid=1, **details):
    made(call)
    entered(run, call, pid)
    entered(run, call, pid, "left")
    returned(call, **details)


def test_a_probe_without_observations_is_vacuous(run):
    vacuous = [
        probes.everybody_is_answered(phase="never"),
        probes.callers_got(phase=["never", "nor this"]),
        probes.victims_are_told(phase="never"),
        probes.errors_tell_how_it_died(phase="never", signal="SIGKILL"),
        probes.errors_say(phase="never", words=["x"]),
        probes.executions(phase="never", exactly=1),
        probes.inside_at_once(phase="never", at_least=2),
        probes.accepted_while_held(phase="never", held="nor this", at_most=1),
        probes.rejected_tasks_never_run(phase="never"),
        probes.rejections_take(phase="never"),
        probes.loop_stays_responsive(phase="never", at_most=1),
        probes.shutdown_ends(),
        probes.processes_are_gone(),
        probes.tasks_are_over(phase="never"),
        probes.no_orphans(),
        probes.accepted_tasks_finish(phase="never"),
        probes.starts(at_most=1),
        probes.failure_surfaces(phase="never", words=["x"]),
        probes.somebody_is_told(phase="never"),
        probes.storm_loses_nothing(phase="never"),
    ]
    assert {answer["status"] for answer in vacuous} == {"vacuous"}
    whole(run, 1)
    nothing_to_judge = [
        probes.callers_got(phase=["p", "nor this"]),
        probes.rejected_tasks_never_run(phase="p"),
        probes.rejections_take(phase="p"),
        probes.accepted_while_held(phase="p", held="never", at_most=1),
    ]
    assert {answer["status"] for answer in nothing_to_judge} == {"vacuous"}


def test_an_answer_after_the_deadline_came_too_late(run):
    made(1)
    emit("caller:work", "hung", call=1, phase="p", waited=6.0)
    returned(1)
    assert probes.everybody_is_answered(phase="p")["status"] == "deviated"
    assert probes.callers_got(phase="p")["observed"] == {"fitting": 0, "calls": 1}


def test_a_call_that_a_hanging_caller_never_made_is_no_call(run):
    made(1)
    for call in (1, 2):
        emit("caller:work", "hung", call=call, phase="p", waited=6.0)
    assert probes.everybody_is_answered(phase="p")["observed"] == {"waiting": 1, "calls": 1}


def test_a_second_run_of_the_victims_task_is_as_good_as_an_error(run):
    made(1)
    entered(run, 1, pid=1)
    entered(run, 1, pid=2)
    entered(run, 1, pid=2, kind="left")
    returned(1)
    assert probes.victims_are_told(phase="p")["status"] == "held"
    assert probes.errors_tell_how_it_died(phase="p", signal="SIGKILL")["status"] == "held"
    whole(run, 2)
    told = probes.victims_are_told(phase="p")
    assert (told["status"], told["observed"]["untold"]) == ("deviated", 1)


@pytest.mark.parametrize("outcome", ["cancelled", "rejected", "wrong"])
def test_a_victim_that_gets_anything_else_was_not_told(run, outcome):
    whole(run, 1, outcome=outcome)
    assert probes.victims_are_told(phase="p")["status"] == "deviated"


@pytest.mark.parametrize(
    ("details", "tells"),
    [
        ({"exitcode": -9}, True),
        ({"signal": "SIGKILL"}, True),
        ({"signal": 9}, True),
        ({"signal": -9}, True),
        ({"text": "ended by SIGKILL(-9)"}, True),
        ({"text": "exit code -9"}, True),
        ({"text": "killed by signal 9"}, True),
        ({"args": ["worker", "SIGKILL"]}, True),
        ({"text": "worker 9 is gone after 9 s"}, False),
        ({"exitcode": 9}, False),
        ({"exitcode": -15, "text": "SIGTERM"}, False),
        ({"text": "pid 4711-9"}, False),
        ({}, False),
    ],
)
def test_an_error_tells_a_signal_by_an_attribute_or_in_words(run, details, tells):
    whole(run, 1, outcome="raised", error="Died", **details)
    answer = probes.errors_tell_how_it_died(phase="p", signal="SIGKILL")
    assert answer["status"] == ("held" if tells else "deviated"), answer["evidence"]


@pytest.mark.parametrize(
    ("details", "tells"),
    [
        ({"exitcode": 3}, True),
        ({"text": "left with exit code 3."}, True),
        ({"text": "exitcode=3"}, True),
        ({"text": "pid 13, 3.5 s, 0.3"}, False),
        ({"exitcode": 7}, False),
    ],
)
def test_an_error_tells_an_exit_code_by_an_attribute_or_in_words(run, details, tells):
    whole(run, 1, outcome="raised", error="Died", **details)
    answer = probes.errors_tell_how_it_died(phase="p", exit_code=3)
    assert answer["status"] == ("held" if tells else "deviated"), answer["evidence"]


def test_words_may_be_anywhere_in_an_error_but_must_be_there(run):
    whole(run, 1, outcome="raised", error="Remote", text="E42", traceback="... TwoArgumentError: on fire")
    assert probes.errors_say(phase="p", words=["TwoArgumentError", "on fire"])["status"] == "held"
    assert (
        probes.errors_say(phase="p", words=["on ice"])["evidence"] == "Remote ('E42') does not say 'on ice' p"
    )


def test_busy_at_once_means_different_workers_at_the_same_time(run):
    made(1)
    made(2)
    for call in (1, 2):
        entered(run, call, pid=1)
        entered(run, call, pid=1, kind="left")
    assert probes.inside_at_once(phase="p", at_least=2)["observed"]["inside"] == 1
    entered(run, 1, pid=1)
    entered(run, 2, pid=2)
    assert probes.inside_at_once(phase="p", at_least=2)["observed"]["inside"] == 2


@pytest.mark.parametrize("lacks", [("retry",), ()])
def test_each_kill_may_cost_one_task_where_none_runs_again(attack, lacks):
    run = attack(SmallTarget(lacks=lacks))
    whole(run, 1)
    whole(run, 2, outcome="raised", error="Died")
    run.lab.inject("worker", "dies").fire(signal="SIGKILL", pid=1)
    assert probes.storm_loses_nothing(phase="p")["status"] == ("held" if lacks else "deviated")
    whole(run, 3, outcome="raised", error="Died")
    assert probes.storm_loses_nothing(phase="p")["status"] == "deviated"


@pytest.mark.parametrize(("tasks", "status"), [(100, "held"), (101, "vacuous")])
def test_a_storm_with_hardly_a_kill_is_none(run, tasks, status):
    run.lab.inject("worker", "dies").fire(signal="SIGKILL", pid=1)
    for number in range(1, tasks + 1):
        whole(run, number)
    assert probes.storm_loses_nothing(phase="p")["status"] == status


@pytest.mark.parametrize("lacks", [("retry",), ()])
def test_a_task_may_run_twice_only_where_tasks_run_again(attack, lacks):
    run = attack(SmallTarget(lacks=lacks))
    run.lab.inject("worker", "dies").fire(signal="SIGKILL", pid=1)
    whole(run, 1)
    entered(run, 1, pid=2)
    assert probes.storm_loses_nothing(phase="p")["status"] == ("deviated" if lacks else "held")


@pytest.mark.parametrize("harm", ["wrong", "never ran", "twice", "hung"])
def test_a_storm_may_neither_mix_up_nor_invent_nor_repeat_nor_forget_answers(run, harm):
    whole(run, 1)
    made(2)
    if harm != "never ran":
        entered(run, 2)
    if harm == "hung":
        emit("caller:work", "hung", call=2, phase="p", waited=6.0)
    else:
        returned(2, outcome="wrong" if harm == "wrong" else "ok")
    if harm == "twice":
        returned(2)
    answer = probes.storm_loses_nothing(phase="p")
    word = {"twice": "answered twice", "never ran": "wrong"}.get(harm, harm)
    assert answer["evidence"].endswith(f"; at most 0 {word} expected")
    assert answer["observed"][word] == 1


def test_the_shutdown_is_spared_where_a_pool_knows_no_force(attack, run):
    attack(SmallTarget(lacks=("shutdown-deadline",)))
    actions.make_pool()
    actions.shut_down(where_it_can=True)
    actions.look_for_processes()
    assert probes.shutdown_ends()["evidence"] == "no shutdown was asked for: too small"
    assert probes.processes_are_gone()["status"] == "held"


def test_a_pool_that_cannot_be_made_is_an_answer_only_where_its_initializer_fails(attack, monkeypatch):
    attack(SmallTarget("refuses-to-be-made"))
    actions.make_pool(initializer="fails")
    actions.submit("work", phase="p")
    actions.wait_for_answers(phase="p")
    assert probes.somebody_is_told(phase="p")["evidence"] == "making the pool raised RuntimeError"
    assert probes.failure_surfaces(phase="p", words=["no room"])["status"] == "held"
    attack(SmallTarget("refuses-to-be-made"))
    with pytest.raises(NotInjected, match=r"^the pool could not be made: RuntimeError: no room$"):
        actions.make_pool()


def test_tasks_that_do_not_reach_a_worker_are_no_setting(attack):
    attack(SmallTarget())
    actions.make_pool()
    actions.hold_workers(phase="held")
    actions.submit("exit_now", phase="behind them", patience=0.1)
    with pytest.raises(NotInjected, match=r"^0 of 1 tasks came into a worker behind them, in 0\.1 s$"):
        actions.wait_until_inside(phase="behind them", within=0.1)
    with pytest.raises(NotInjected, match=r"^0 of 1 tasks left their worker held, in 0\.1 s$"):
        actions.wait_until_left(phase="held", within=0.1)
    with pytest.raises(NotInjected, match=r"^no busy worker in a task of 'behind them': .*"):
        actions.kill(phase="behind them")
    with pytest.raises(NotInjected, match=r"^no busy worker in a task of 'behind them': .*"):
        actions.freeze(phase="behind them")


def test_a_fault_inside_a_task_has_fired_when_the_task_was_entered(attack):
    run = attack(SmallTarget())
    actions.make_pool()
    actions.hold_workers(phase="held")
    actions.submit("exit_now", phase="behind them")
    assert [fault.fired for fault in run.lab.faults] == [0]
    actions.let_go(phase="held")
    actions.wait_for_answers(phase=["held", "behind them"])
    actions.wait_for_answers(phase=["held", "behind them"])
    assert [fault.fired for fault in run.lab.faults] == [1]


def test_nothing_lives_on_when_the_run_ends(attack):
    run = attack(SmallTarget())
    actions.make_pool()
    actions.hold_workers(phase="held")
    pids = [event.process for event in run.lab.timeline.where("dependency", "entered")]
    assert len(pids) == 2
    run.stack.close()
    actions_over = [pid for pid in pids if _lives(pid)]
    assert not actions_over


def _lives(pid):
    from pytest_prodpatterns.targets._host import start_time

    return start_time(pid) is not None
