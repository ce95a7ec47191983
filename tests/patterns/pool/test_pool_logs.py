"""Log records: shipped by a worker, and handled in the parent as if they had been logged there.

`forward` changes the whole process, so a worker is played in a copy of the loggers, which a fixture puts back.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback

import nasty_errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nasty_errors import BadText, EvilText, OnlyInTheWorker, TwoArguments

from pytest_prodpatterns.patterns.pool._logs import deliver, forward, levels

ROOT = logging.getLogger()
APP = logging.getLogger("pool_logs")
PART = logging.getLogger("pool_logs.part")


class Kept(logging.Handler):
    """Keeps what it handles, and the lines that a formatter makes of it."""

    def __init__(self):
        super().__init__()
        self.records, self.lines = [], []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record):
        self.lines.append(self.format(record))
        self.records.append(record)


@pytest.fixture(autouse=True)
def loggers():
    """Put all loggers back as they were."""
    known = [
        ROOT,
        *(each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)),
    ]
    before = [
        (each, each.handlers[:], each.filters[:], each.level, each.propagate, each.disabled) for each in known
    ]
    nasty_errors.HERE["parent"] = False
    yield
    nasty_errors.HERE["parent"] = False
    logging.disable(logging.NOTSET)
    for each, handlers, filters, level, propagate, disabled in before:
        each.handlers[:], each.filters[:] = handlers, filters
        each.setLevel(level)
        each.propagate, each.disabled = propagate, disabled


@pytest.fixture
def kept():
    """The parent's handler, on its root."""
    handler = Kept()
    ROOT.handlers[:] = [handler]
    return handler


class Worker:
    """A worker that is played in this process: between `with`, its loggers are the process's."""

    def __init__(self, level=logging.DEBUG):
        self.level, self.sent = level, []

    def __enter__(self):
        self.parents = [(each, each.handlers[:], each.level, each.propagate) for each in (ROOT, APP, PART)]
        forward(self.sent.append, self.level)
        return self

    def __exit__(self, *exc_info):
        for each, handlers, level, propagate in self.parents:
            each.handlers[:] = handlers
            each.setLevel(level)
            each.propagate = propagate

    def deliver(self):
        nasty_errors.HERE["parent"] = True
        for data in self.sent:
            deliver(data)


def shipped(log, level=logging.DEBUG):
    """Log in a worker, handle in the parent."""
    ROOT.setLevel(logging.DEBUG)
    with Worker(level) as worker:
        log()
    worker.deliver()


# --- what arrives -------------------------------------------------------------------------------------------


def test_a_record_arrives_with_its_text_and_its_origin(kept):
    shipped(lambda: PART.warning("%s of %d", "one", 2))
    (record,) = kept.records
    assert kept.lines == ["WARNING pool_logs.part: one of 2"]
    assert (record.name, record.levelno, record.args) == ("pool_logs.part", logging.WARNING, None)
    assert (record.process, record.threadName) == (os.getpid(), threading.current_thread().name)
    assert (record.filename, record.funcName) == ("test_pool_logs.py", "<lambda>")
    assert type(record) is logging.LogRecord


def test_records_keep_their_order(kept):
    shipped(lambda: [PART.info(number) for number in range(50)])
    assert [record.getMessage() for record in kept.records] == [str(number) for number in range(50)]


def test_a_percent_sign_in_a_text_stays_one(kept):
    shipped(lambda: PART.info("100 %s done", "%d %"))
    assert kept.lines == ["INFO pool_logs.part: 100 %d % done"]


def fail():
    try:
        raise TwoArguments(1, "hint")
    except TwoArguments:
        PART.exception("failed")
        return traceback.format_exc()


def test_a_traceback_arrives_as_its_text(kept):
    texts = []
    shipped(lambda: texts.append(fail()))
    (record,) = kept.records
    assert (record.exc_info, record.exc_text) == (None, texts[0].rstrip("\n"))
    assert kept.lines == [f"ERROR pool_logs.part: failed\n{texts[0]}".rstrip("\n")]


def test_exc_info_without_an_exception_is_as_in_the_standard_library(kept):
    shipped(lambda: PART.info("x", exc_info=True))
    assert kept.lines == ["INFO pool_logs.part: x\nNoneType: None"]


def test_a_stack_arrives(kept):
    shipped(lambda: PART.info("here", stack_info=True))
    (record,) = kept.records
    assert record.stack_info.startswith("Stack (most recent call last):\n")
    assert kept.lines[0].endswith(record.stack_info)


def test_extras_arrive(kept):
    shipped(lambda: PART.info("x", extra={"user": "ann", "sizes": {1: [2.5]}, "none": None}))
    (record,) = kept.records
    assert (record.user, record.sizes, record.none) == ("ann", {1: [2.5]}, None)


NASTY = {
    "lock": (threading.Lock, lambda value: value.startswith("<unlocked _thread.lock")),
    "lambda": (lambda: lambda: 1, lambda value: value.startswith("<function ")),
    "bad text": (lambda: BadText(), lambda value: type(value) is BadText),
    "two arguments": (lambda: TwoArguments(1, 2), lambda value: value == "TwoArguments('code 1')"),
    "only in the worker": (
        OnlyInTheWorker,
        lambda value: value == "<nasty_errors.OnlyInTheWorker that cannot be loaded here>",
    ),
    "large": (lambda: b"x" * 10_000_000, lambda value: value.startswith("b'xxx") and len(value) < 1_100),
}


@pytest.mark.parametrize(("make", "is_as_wished"), NASTY.values(), ids=NASTY)
def test_an_extra_that_does_not_travel_arrives_in_words(kept, make, is_as_wished):
    shipped(lambda: PART.info("x", extra={"nasty": make(), "other": 7}))
    (record,) = kept.records
    assert is_as_wished(record.nasty)
    assert (record.other, record.getMessage()) == (7, "x")


def exploding():
    try:
        raise BadText
    except BadText:
        PART.exception("x")


BAD = {
    "arguments that do not fit": (lambda: PART.info("%d", "x"), "%d (does not fit its arguments: ('x',))"),
    "too few arguments": (lambda: PART.info("%s %s", 1), "%s %s (does not fit its arguments: (1,))"),
    "an argument without a text": (
        lambda: PART.info("%s", BadText()),
        "%s (does not fit its arguments: <tuple: repr() failed>)",
    ),
    "a message without a text": (
        lambda: PART.info(BadText()),
        "<nasty_errors.BadText: str() failed> (does not fit its arguments: ())",
    ),
    "a message of an evil text": (lambda: PART.info(EvilText("evil")), "evil"),
    "an exception without a text": (exploding, "x"),
}


@pytest.mark.parametrize(("log", "text"), BAD.values(), ids=BAD)
def test_a_record_that_cannot_be_formatted_says_so(kept, log, text, capsys):
    shipped(log)
    (record,) = kept.records
    assert record.getMessage() == text
    assert capsys.readouterr().err == ""


def test_a_standard_attribute_that_a_filter_replaced_costs_only_itself(kept):
    def replace(record):
        record.threadName = threading.Lock()
        record.colour = "red"
        return True

    with Worker() as worker:
        ROOT.handlers[0].addFilter(replace)
        PART.warning("x")
    ROOT.setLevel(logging.DEBUG)
    worker.deliver()
    (record,) = kept.records
    assert (record.getMessage(), record.colour, record.levelno) == ("x", "red", logging.WARNING)
    assert record.threadName.startswith("<unlocked")


def test_a_very_long_text_is_cut(kept):
    shipped(lambda: PART.info("x" * 1_000_000))
    assert " characters …] " in kept.records[0].getMessage()
    assert len(kept.records[0].getMessage()) < 70_000


@given(
    st.text() | st.binary() | st.integers() | st.none(),
    st.lists(st.text() | st.integers() | st.floats() | st.builds(threading.Lock), max_size=3),
    st.dictionaries(
        st.text(min_size=1).map("extra_{}".format),
        st.text() | st.integers() | st.builds(BadText) | st.builds(threading.Lock),
        max_size=3,
    ),
)
def test_every_record_arrives(text, args, extra):
    kept = Kept()
    ROOT.handlers[:] = [kept]
    shipped(lambda: PART.info(text, *args, extra=extra))
    (record,) = kept.records
    assert vars(record).keys() >= extra.keys()
    assert type(record.msg) is str


# --- the parent decides -------------------------------------------------------------------------------------


def test_the_parents_level_decides(kept):
    with Worker() as worker:
        for logger in (APP, PART):
            logger.debug("debug")
            logger.warning("warning")
    ROOT.setLevel(logging.ERROR)
    PART.setLevel(logging.WARNING)
    worker.deliver()
    assert kept.lines == ["WARNING pool_logs.part: warning"]


def test_the_parents_filters_decide(kept):
    with Worker() as worker:
        PART.warning("secret")
        PART.warning("open")
    PART.addFilter(lambda record: record.getMessage() != "secret")
    worker.deliver()
    assert kept.lines == ["WARNING pool_logs.part: open"]


def test_the_parents_handlers_get_each_record_once(kept):
    on_app = Kept()
    APP.addHandler(on_app)
    APP.propagate = False
    shipped(lambda: PART.warning("x"))
    assert (on_app.lines, kept.lines) == (["WARNING pool_logs.part: x"], [])


def test_a_disabled_logger_and_disabled_levels_stay_silent(kept):
    with Worker() as worker:
        PART.warning("warning")
        APP.error("error")
    PART.disabled = True
    logging.disable(logging.ERROR)
    worker.deliver()
    assert kept.lines == []
    PART.disabled = False
    logging.disable(logging.WARNING)
    worker.deliver()
    assert kept.lines == ["ERROR pool_logs: error"]


def test_caplog_sees_what_workers_log(caplog):
    with caplog.at_level(logging.INFO):
        with Worker() as worker:
            PART.info("seen")
        ROOT.setLevel(logging.INFO)
        worker.deliver()
    assert caplog.messages == ["seen"]


def test_a_record_factory_of_the_parent_makes_the_record(kept):
    class Own(logging.LogRecord):
        pass

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Own)
    try:
        shipped(lambda: PART.warning("x"))
    finally:
        logging.setLogRecordFactory(before)
    assert type(kept.records[0]) is Own


class Breaks(logging.Filter):
    def filter(self, record):
        raise SystemExit(3)


def test_a_filter_that_fails_does_not_reach_the_pool(kept, capsys, monkeypatch):
    with Worker() as worker:
        PART.warning("x")
    PART.addFilter(Breaks())
    worker.deliver()
    assert "SystemExit: 3" in capsys.readouterr().err
    monkeypatch.setattr(logging, "raiseExceptions", False)
    worker.deliver()
    assert (capsys.readouterr().err, kept.lines) == ("", [])


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", pickle.dumps(7), pickle.dumps(({}, {})), pickle.dumps(({"levelno": []}, {}))]
)
def test_what_is_no_record_does_not_reach_the_pool(kept, data, capsys):
    deliver(data)
    deliver(memoryview(data))
    assert kept.records == []


# --- the worker ---------------------------------------------------------------------------------------------


def test_a_worker_has_no_handlers_but_the_sender(kept):
    mine = Kept()
    PART.addHandler(mine)
    PART.propagate = False
    with Worker() as worker:
        PART.warning("x")
        assert (len(ROOT.handlers), PART.handlers, PART.propagate) == (1, [], True)
    assert (mine.lines, kept.lines, len(worker.sent)) == ([], [], 1)


@pytest.mark.parametrize("level", [logging.WARNING, "WARNING", {"": logging.WARNING}])
def test_what_the_parent_would_drop_is_not_sent(level):
    with Worker(level) as worker:
        PART.info("dropped")
        PART.warning("sent")
    assert len(worker.sent) == 1


def test_the_parents_levels_hold_in_a_worker_that_knows_none():
    ROOT.setLevel(logging.ERROR)
    PART.setLevel(logging.INFO)
    wanted = levels()
    assert (wanted[""], wanted["pool_logs.part"]) == (logging.ERROR, logging.INFO)
    assert "pool_logs" not in wanted
    PART.setLevel(logging.NOTSET)
    with Worker(wanted) as worker:
        APP.warning("dropped")
        PART.info("sent")
        PART.debug("dropped")
    assert len(worker.sent) == 1


def test_a_channel_that_is_gone_is_no_error_of_the_task(capsys):
    calls = itertools.count()

    def send(data):
        if next(calls) < 100:
            PART.info("this one waits")
        raise BrokenPipeError

    forward(send, logging.DEBUG)
    for _ in range(100):
        PART.warning("x")
    assert next(calls) == 100
    assert not ROOT.handlers[0]._waiting
    assert capsys.readouterr().err == ""


def test_a_channel_that_logs_itself_is_not_entered_twice():
    sent, inside = [], []

    def send(data):
        assert not inside
        inside.append(data)
        if len(sent) < 3:
            PART.info("sent number %d", len(sent))
        sent.append(data)
        inside.clear()

    forward(send, logging.DEBUG)
    PART.info("first")
    texts = [pickle.loads(data)[0]["msg"] for data in sent]
    assert texts == ["first", "sent number 0", "sent number 1", "sent number 2"]


class Interrupted:
    def __str__(self):
        raise KeyboardInterrupt


def test_an_interrupt_of_the_task_is_not_swallowed(kept):
    with Worker() as worker:
        with pytest.raises(KeyboardInterrupt):
            PART.info("%s", Interrupted())
        PART.info("still sending")
    ROOT.setLevel(logging.DEBUG)
    worker.deliver()
    assert kept.lines == ["INFO pool_logs.part: still sending"]


class LogsWhenPrinted:
    def __repr__(self):
        PART.info("printed")
        return "printed"

    def __reduce__(self):
        raise TypeError


def test_an_extra_that_logs_when_it_is_printed_does_not_end_in_a_circle(kept):
    shipped(lambda: PART.info("x", extra={"it": LogsWhenPrinted()}))
    assert [record.getMessage() for record in kept.records] == ["printed", "x"]


def test_threads_send_one_after_the_other(kept):
    inside = []

    def log():
        for number in range(50):
            PART.info("%d", number)

    sent = []

    def send(data):
        inside.append(data)
        assert len(inside) == 1
        sent.append(data)
        inside.clear()

    forward(send, logging.DEBUG)
    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(sent) == 200


CHILD = """
import logging, os, sys
from pytest_prodpatterns.patterns.pool._logs import forward
sent = []
forward(sent.append, logging.DEBUG)
logging.warning("by the worker")
child = os.fork()
if not child:
    logging.info("hardly worth it")
    logging.warning("by the child of a task")
    os._exit(len(sent) - 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(sent))
"""


def test_a_process_that_a_task_forked_does_not_write_on_the_workers_channel():
    answer = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=30)
    assert (answer.stdout, answer.stderr) == ("0 1\n", "by the child of a task\n")
