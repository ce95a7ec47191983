"""A pool that a user's own factory makes: called with the settings that its signature names.

The adapter is chosen by the type of what it returns; whatever follows `concurrent.futures.Executor` will do.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import queue
import sys
from typing import TYPE_CHECKING, Any, Final

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.pool import _catalogue
from pytest_prodpatterns.targets.pool._found import find, parameters
from pytest_prodpatterns.targets.pool._protocol import (
    ExecutorAdapter,
    FutureLike,
    PoolAdapter,
    PoolSettings,
    initializer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "workers": ("num_workers", "max_workers", "workers", "n_workers", "n_jobs", "processes"),
    "queue_size": ("max_queue_size", "queue_size", "max_backlog", "max_pending"),
    "when_full": ("when_full",),
    "queue_timeout": ("queue_timeout",),
    "task_timeout": ("task_timeout",),
    "retries": ("retries", "max_retries", "on_crash"),
    "start_method": ("start_method",),
}
"""A setting -> the parameters by which a factory may take it, the preferred one first."""

_NEEDS: Final = {
    "bounded-queue": "queue_size",
    "reject-when-full": "when_full",
    "queue-timeout": "queue_timeout",
    "task-timeout": "task_timeout",
    "retry": "retries",
}
"""A requirement -> the setting without which it cannot be met."""

_INSISTED: Final = {"queue_size": 1000}
"""What a factory gets that insists on a setting, where a scenario does not care."""

_TYPES: Final = {
    "pytest_prodpatterns": "ours",
    "concurrent": "ppe-fork",
    "loky": "ppe-fork",  # an executor that is there is not asked for again
    "multiprocessing": "multiprocessing-pool",
    "pebble": "pebble",
    "mpire": "mpire",
    "billiard": "billiard",
    "deadpool": "deadpool",
}
"""Top-level module of a pool's class -> whose methods it has."""


class FactoryAdapter(PoolAdapter):
    """Attack what a factory returns.

    Args:
        module: Where the factory is.
        path: Its name there; the class of a method is made without arguments.
        file: The file of the module, for one that cannot be imported by its name.
        name: What reports call it.
    """

    def __init__(self, module: str, path: str, file: str | None, name: str) -> None:
        self.name = name
        self._factory = find(module, path, file, name)
        self._takes = parameters(self._factory)
        self._accepted = {
            setting: next(word for word in words if word in self._takes)
            for setting, words in _WORDS.items()
            if not self._takes.keys().isdisjoint(words)
        }
        if "workers" not in self._accepted:
            raise TargetError(
                f"{name} takes no num_workers, and a scenario has to set it; write: def make_executor(*, num_workers): …"
            )
        self._inner: PoolAdapter

    def describe(self) -> dict[str, Any]:
        """Make a pool, look at it, and shut it down."""
        made = self._made(PoolSettings(workers=1))
        kind = type(made)
        self._inner = _adapter_of(made, self.name)
        try:
            pool = self._inner.wrap(made, PoolSettings())
            self._inner.shutdown(pool, wait=True, cancel=False, deadline=None)
        except Exception as error:
            raise TargetError(
                f"the {kind.__name__} that {self.name} made cannot be shut down: {error!r}"
            ) from error
        return {
            "description": f"{kind.__module__}.{kind.__qualname__} made by {self.name}",
            "lacks": self._all_lacks(),
            "version": _version(self._inner, kind),
        }

    def full_errors(self) -> tuple[type[BaseException], ...]:
        """Ask the adapter; `queue.Full` is everybody's word for it."""
        return (*self._inner.full_errors(), queue.Full)

    def make(self, settings: PoolSettings) -> Any:
        """Call the factory with what it knows."""
        made = self._made(settings)
        self._inner = _adapter_of(made, self.name)
        return self._inner.wrap(made, settings)

    def submit(self, pool: Any, fn: Callable[..., Any], *args: Any) -> FutureLike:
        """Submit as the adapter does."""
        return self._inner.submit(pool, fn, *args)

    async def run_async(self, pool: Any, fn: Callable[..., Any], *args: Any) -> Any:
        """Run as the adapter does."""
        return await self._inner.run_async(pool, fn, *args)

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down as the adapter does."""
        self._inner.shutdown(pool, wait=wait, cancel=cancel, deadline=deadline)

    def drain(self, pool: Any, deadline: float) -> AbstractContextManager[Any]:
        """Drain as the adapter does."""
        return self._inner.drain(pool, deadline)

    def _made(self, settings: PoolSettings) -> Any:
        wanted = {}
        for setting, word in self._accepted.items():
            value = _value(settings, setting, word)
            if value is None and self._takes[word]:
                value = _INSISTED.get(setting)
            if value is not None or self._takes[word]:
                wanted[word] = value
        if {"initializer", "initargs"} <= self._takes.keys():
            wanted |= initializer(settings)
        try:
            return self._factory(**wanted)
        except (Exception, SystemExit) as error:
            raise TargetError(f"{self.name} raised {error!r} for {wanted}") from error

    def _all_lacks(self) -> dict[str, str]:
        lacks = dict(self._inner.lacks)
        for requirement, setting in _NEEDS.items():
            if setting not in self._accepted:
                lacks.setdefault(requirement, f"{self.name} takes no {_WORDS[setting][0]}")
        if not {"initializer", "initargs"} <= self._takes.keys():
            lacks.setdefault("initializer", f"{self.name} takes no initializer and initargs")
        return lacks


class StrangerAdapter(ExecutorAdapter):
    """An Executor that nobody wrote an adapter for; what it can do besides is read off what stands there.

    Args:
        sample: One of them.
    """

    def __init__(self, sample: Any) -> None:
        self._words = parameters(sample.shutdown).keys() & {"cancel_futures", "deadline"}
        self.lacks = {}
        if "deadline" not in self._words:
            self.lacks["shutdown-deadline"] = f"{type(sample).__name__}.shutdown takes no deadline"
        if not callable(getattr(sample, "drain_on_sigterm", None)):
            self.lacks["drain-on-sigterm"] = f"{type(sample).__name__} has no drain_on_sigterm"

    def make(self, settings: PoolSettings) -> Any:
        """Refuse: the factory makes them."""
        raise NotImplementedError

    def shutdown(self, pool: Any, *, wait: bool, cancel: bool, deadline: float | None) -> None:
        """Shut down, with those words that are known."""
        said = {"cancel_futures": cancel or None, "deadline": deadline}
        known = {word: said[word] for word in self._words if said[word] is not None}
        pool.shutdown(wait=wait, **known)

    def drain(self, pool: Any, deadline: float) -> AbstractContextManager[Any]:
        """Drain by `drain_on_sigterm(deadline=…)`, as ours does."""
        context: AbstractContextManager[Any] = pool.drain_on_sigterm(deadline=deadline)
        return context


def _value(settings: PoolSettings, setting: str, word: str) -> Any:
    """Return what a factory gets; None for what it may leave to its own default."""
    value = getattr(settings, setting)
    if word != "on_crash":
        return value
    if not value:
        return None
    from pytest_prodpatterns.patterns.pool import retry  # noqa: PLC0415 - ours alone has this word

    return retry(value)


def _adapter_of(pool: Any, name: str) -> PoolAdapter:
    if pool is None:
        raise TargetError(f"{name} returned None; expected an Executor (is a `return` missing?)")
    if inspect.iscoroutine(pool):
        pool.close()
        raise TargetError(f"{name} is async; expected a plain function that returns an Executor")
    if isinstance(pool, type):
        raise TargetError(f"{name} returned the class {pool.__name__}; expected an Executor made of it")
    for kind in type(pool).__mro__:
        if kind.__module__ == "concurrent.futures.thread":
            raise TargetError(f"{name} returned a {type(pool).__name__}; expected a pool of processes")
        library = _TYPES.get(kind.__module__.partition(".")[0])
        if library and kind.__module__ != "concurrent.futures._base":
            return _catalogue.adapter(library)
    if callable(getattr(pool, "submit", None)) and callable(getattr(pool, "shutdown", None)):
        return StrangerAdapter(pool)
    raise TargetError(
        f"{name} returned something of type {type(pool).__name__}; expected an Executor, which has submit(fn, *args) and shutdown(wait)"
    )


def _version(adapter: PoolAdapter, kind: type) -> str:
    """Return the version of the library or of Python; a pool of the user's own has none."""
    if adapter.distribution:
        return importlib.metadata.version(adapter.distribution)
    known = kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return ".".join(map(str, sys.version_info[:3])) if known else ""
