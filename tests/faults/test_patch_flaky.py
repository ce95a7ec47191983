"""`patch_flaky`: which names it can replace, how they bind, and that they come back."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import types
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from pytest_prodpatterns import faults
from pytest_prodpatterns.faults import patch_flaky, plan
from pytest_prodpatterns.lab import ChaosLab, RollbackError


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own; `asyncio.run` would take away the loop that pytest-asyncio set."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(main)


SOURCE = """
import functools
def charge(amount): return f"charged {amount}"
async def fetch(): return "fetched"
LIMIT = 30
class Client:
    factor = len
    part = functools.partial(int, base=2)
    def send(self, text): return f"{type(self).__name__} sent {text}"
    async def receive(self): return "received"
    @staticmethod
    def check(text): return f"checked {text}"
    @classmethod
    def make(cls, text): return f"{cls.__name__} made {text}"
    @property
    def size(self): return 3
class Special(Client):
    pass
class Slotted:
    __slots__ = ()
    def send(self, text): return text
client = Client()
slotted = Slotted()
short = lambda: "short"
"""


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = types.ModuleType("fa_shop")
    exec(SOURCE, vars(module))
    for value in vars(module).values():
        if getattr(value, "__module__", None) == "builtins" and isinstance(value, types.FunctionType | type):
            value.__module__ = "fa_shop"
    monkeypatch.setitem(sys.modules, "fa_shop", module)
    yield module


def namespace(thing: Any) -> dict[str, Any]:
    return dict(getattr(thing, "__dict__", {}))


PLACES = {
    "charge": (lambda shop: shop.charge(5), "charged 5"),
    "short": (lambda shop: shop.short(), "short"),
    "Client.send": (lambda shop: shop.client.send("x"), "Client sent x"),
    "Client.check": (lambda shop: shop.Client.check("x"), "checked x"),
    "Client.make": (lambda shop: shop.Client.make("x"), "Client made x"),
    "Special.send": (lambda shop: shop.Special().send("x"), "Special sent x"),
    "Special.make": (lambda shop: shop.Special().make("x"), "Special made x"),
    "Special.check": (lambda shop: shop.Special().check("x"), "checked x"),
    "client.send": (lambda shop: shop.client.send("x"), "Client sent x"),
    "client.make": (lambda shop: shop.client.make("x"), "Client made x"),
    "client.check": (lambda shop: shop.client.check("x"), "checked x"),
    "Client.factor": (lambda shop: shop.client.factor("abc"), 3),
    "Client.part": (lambda shop: shop.client.part("101"), 5),
    "slotted.__class__.send": (lambda shop: shop.slotted.send("x"), "x"),
}


@pytest.mark.filterwarnings("ignore:functools.partial will be a method descriptor:FutureWarning")
@pytest.mark.parametrize("path", PLACES)
def test_a_patched_name_binds_as_before_and_comes_back(path: str, shop: Any) -> None:
    use, answer = PLACES[path]
    before = {name: namespace(value) for name, value in vars(shop).items() if not name.startswith("__")}
    assert use(shop) == answer
    with patch_flaky(f"fa_shop:{path}", fault=faults.raises(ConnectionError), when=plan.first(1)) as patch:
        with pytest.raises(ConnectionError):
            use(shop)
        assert use(shop) == answer
        assert (patch.calls, patch.fault.fired, patch.fault.name) == (2, 1, path)
    assert {
        name: namespace(value) for name, value in vars(shop).items() if not name.startswith("__")
    } == before
    assert use(shop) == answer
    assert patch.calls == 2


def test_a_patched_class_serves_its_subclasses_too(shop: Any) -> None:
    with patch_flaky("fa_shop:Client.make", fault=faults.raises(OSError), when="first(1)"):
        with pytest.raises(OSError, match=r"^$"):
            shop.Special.make("x")
        assert shop.Special.make("x") == "Special made x"


def test_a_patched_coroutine_function_stays_one(shop: Any) -> None:
    with patch_flaky("fa_shop:fetch", fault=faults.returns("stale"), when=plan.first(1)):
        assert inspect.iscoroutinefunction(shop.fetch)
        assert [run(shop.fetch()), run(shop.fetch())] == ["stale", "fetched"]
    with patch_flaky("fa_shop:Client.receive", fault=faults.returns("stale")):
        assert run(shop.client.receive()) == "stale"


def test_a_builtin_of_a_module_can_be_patched() -> None:
    import math

    original = math.sqrt
    with patch_flaky("math:sqrt", fault=faults.raises(ConnectionError)), pytest.raises(ConnectionError):
        math.sqrt(4)
    assert math.sqrt is original


def test_the_lab_gives_the_name_back_and_tells(shop: Any) -> None:
    original = shop.charge
    with ChaosLab(1) as lab:
        patch_flaky("fa_shop:charge", fault=faults.returns("no"), when=plan.calls(2))
        assert [shop.charge(1), shop.charge(1)] == ["charged 1", "no"]
    assert shop.charge is original
    assert [(event.source, event.kind, event.attributes) for event in lab.timeline] == [
        ("fault:charge", "armed", {"description": "returns('no') when calls(2)"}),
        ("fault:charge", "fired", {"call": 2}),
        ("lab", "undone", {"name": "charge: returns('no') when calls(2)"}),
    ]


def test_a_patch_left_early_is_undone_once(shop: Any) -> None:
    with ChaosLab(1) as lab:
        with patch_flaky("fa_shop:charge", fault=faults.returns("no")):
            assert shop.charge(1) == "no"
        assert shop.charge(1) == "charged 1"
        assert len(lab.undo) == 0
    assert len(lab.timeline.where(kind="undone")) == 1


def test_patches_of_one_name_stack(shop: Any) -> None:
    original = shop.charge
    with ChaosLab(1):
        patch_flaky("fa_shop:charge", fault=faults.raises(KeyError), when=plan.calls(1))
        second = patch_flaky("fa_shop:charge", fault=faults.raises(OSError), when=plan.calls(1))
        assert second.fault.name == "charge#2"
        for kind in (OSError, KeyError):
            with pytest.raises(kind):
                shop.charge(1)
        assert shop.charge(1) == "charged 1"
    assert shop.charge is original


def test_a_name_that_was_replaced_meanwhile_is_left_alone_and_reported(shop: Any) -> None:
    def later() -> str:
        return "later"

    with pytest.raises(RollbackError) as caught, ChaosLab(1):
        patch = patch_flaky("fa_shop:charge", fault=faults.raises(OSError))
        wrapper = shop.charge
        shop.charge = later
    (error,) = caught.value.exceptions
    assert str(error).startswith("'fa_shop:charge' was replaced by <function")
    assert "undo the later patch first" in str(error)
    assert shop.charge is later
    assert wrapper(1) == "charged 1"
    assert "charge" in repr(patch)


@pytest.mark.parametrize(
    ("place", "kind", "message"),
    [
        (
            "fa_shop.charge",
            ValueError,
            r"^patch_flaky\(\): place must read like .*; did you mean 'fa_shop:charge'\?$",
        ),
        (
            "charge",
            ValueError,
            r"^patch_flaky\(\): place must read like 'package\.module:attribute', not 'charge'$",
        ),
        ("fa_shop:", ValueError, r"^patch_flaky\(\): place must read like .*$"),
        ("fa_shop:a b", ValueError, r"^patch_flaky\(\): place must read like .*$"),
        (3, ValueError, r"^patch_flaky\(\): place must read like .* not 3$"),
        (
            "fa_shpo:charge",
            ModuleNotFoundError,
            r"^.*there is no module 'fa_shpo'; did you mean 'fa_shop'\?$",
        ),
        (
            "asyncio.queue:x",
            ModuleNotFoundError,
            r"^.*there is no module 'asyncio\.queue'; did you mean 'queues'\?$",
        ),
        ("qqqzzz.a:x", ModuleNotFoundError, r"^patch_flaky\(\): there is no module 'qqqzzz'$"),
        (
            "fa_shop:chrage",
            AttributeError,
            r"^.*: module fa_shop has no attribute 'chrage'; did you mean 'charge'\?$",
        ),
        (
            "fa_shop:Client.sned",
            AttributeError,
            r"^.*: class Client has no attribute 'sned'; did you mean 'send'\?$",
        ),
        (
            "fa_shop:client.sned",
            AttributeError,
            r"^.*: object <.*> has no attribute 'sned'; did you mean 'send'\?$",
        ),
        ("fa_shop:nothing.send", AttributeError, r"^.*: module fa_shop has no attribute 'nothing'$"),
        ("fa_shop:LIMIT", TypeError, r"^.*'fa_shop:LIMIT' must be a function or a method, but it is 30$"),
        ("fa_shop:Client", TypeError, r"^.*'fa_shop:Client' is a class; .* 'fa_shop:Client\.__init__'$"),
        (
            "fa_shop:Client.size",
            TypeError,
            r"^.* must be a function or a method, but it is <property object .*>$",
        ),
        (
            "fa_shop:slotted.send",
            TypeError,
            r"^.*'fa_shop:slotted\.send' cannot be replaced \(.*\); patch the name .*$",
        ),
        (
            "builtins:dict.get",
            TypeError,
            r"^.*'builtins:dict\.get' cannot be replaced \(.*\); patch the name .*$",
        ),
    ],
)
def test_a_name_that_cannot_be_patched_says_why(place: Any, kind: type[Exception], message: str) -> None:
    with ChaosLab(1) as lab:
        with pytest.raises(kind, match=message):
            patch_flaky(place, fault=faults.raises(OSError))
        assert lab.faults == []
        assert len(lab.undo) == 0


def test_an_import_error_inside_the_module_is_not_hidden(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fa_broken.py").write_text("import fa_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'fa_absent'$"):
        patch_flaky("fa_broken:x", fault=faults.raises(OSError))


def test_a_cached_function_can_be_patched(shop: Any) -> None:
    shop.cached = functools.lru_cache(shop.charge)
    with patch_flaky("fa_shop:cached", fault=faults.returns("no"), when="first(1)"):
        assert [shop.cached(1), shop.cached(1)] == ["no", "charged 1"]


@pytest.mark.parametrize("again", ["by hand", "by the lab"])
def test_a_patch_under_a_later_one_is_undone_when_that_is_gone(shop: Any, again: str) -> None:
    real = shop.charge
    with ChaosLab(seed=1):
        first = patch_flaky("fa_shop:charge", fault=faults.returns("first"))
        second = patch_flaky("fa_shop:charge", fault=faults.returns("second"))
        with pytest.raises(RuntimeError, match=r"undo the later patch first"):
            first.undo()
        assert shop.charge(5) == "second"
        if again == "by hand":
            second.undo()
            first.undo()
            assert shop.charge is real
    assert shop.charge is real
