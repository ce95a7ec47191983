"""A breaker that a user's own factory makes: the adapter is chosen by what the factory returns."""

from __future__ import annotations

import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets._base import TargetError
from pytest_prodpatterns.targets.breaker._protocol import SIGNATURE, BreakerTarget, Kind, Settings
from pytest_prodpatterns.targets.breaker._stranger import Stranger

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = {
    "pytest_prodpatterns.patterns.breaker": "ours",
    "pybreaker": "pybreaker",
    "circuitbreaker": "circuitbreaker",
    "aiobreaker": "aiobreaker",
    "nopanic": "nopanic",
    "interlock": "interlock-cb",
}
"""Top-level module of a breaker's class -> whose `call` and decorator it has."""


def load(spec: str) -> Callable[..., Any]:
    """Import the factory that `module:callable` names.

    Raises:
        TargetError: There is no such module or no such callable in it, or it is a breaker itself.
    """
    module_name, _, path = spec.partition(":")
    if "" not in sys.path:
        # The console script does not look into the working directory, `python -m` does.
        sys.path.insert(0, "")
    if not module_name or not path:
        raise TargetError(
            f"{spec!r} names no factory; expected module:callable, for example app.breakers:make"
        )
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise TargetError(f"cannot load the factory {spec!r}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise TargetError(f"cannot load the factory {spec!r}: {module_name} raised {error!r}") from error
    if _is_breaker(found):
        kind = type(found).__name__
        raise TargetError(
            f"{spec} is a {kind}, not a factory of breakers;"
            f" write: def make_breaker(*, {SIGNATURE}): return {kind}(...)"
        )
    if not callable(found):
        raise TargetError(
            f"{spec!r} is a {type(found).__name__}, expected a callable that makes a breaker of"
            " failure_threshold, recovery_timeout and success_threshold"
        )
    return found  # type: ignore[no-any-return]


class FactoryTarget(BreakerTarget):
    """Attack what a factory returns.

    Args:
        name: What reports call it.
        factory: Called with those of `failure_threshold`, `recovery_timeout` (seconds), `success_threshold`
            and `call_timeout` that its signature names.
        adapters: Name of a library -> its adapter.
        call: How to call through a breaker that nobody knows; by default its `.call`, else its decorator.
        call_async: The same for coroutine functions.
    """

    def __init__(
        self,
        name: str,
        factory: Callable[..., Any],
        adapters: dict[str, type[BreakerTarget]],
        *,
        call: Callable[..., Any] | None = None,
        call_async: Callable[..., Any] | None = None,
    ) -> None:
        self.name = name
        self._factory = factory
        self._accepted = _accepted(factory)
        for name_needed in ("failure_threshold", "recovery_timeout"):
            if name_needed not in self._accepted:
                raise TargetError(
                    f"{name} takes no {name_needed}, and a scenario has to set it; write: {_signature(factory)}"
                )
        self._sample: Any = None
        self._sample = sample = self._produce(Settings())
        self._produce(Settings())  # a breaker that scenarios would share is found now, not in each of them
        library = _TYPES.get(_module(sample))
        self._adapter: BreakerTarget = adapters[library]() if library else Stranger(sample, call, call_async)
        self.description = f"{type(sample).__module__}.{type(sample).__qualname__} made by {name}"
        self.lacks = self._adapter.lacks
        if library == "ours":
            self.time = "virtual"

    @property
    def version(self) -> str:
        """The version of the library behind it."""
        return self._adapter.version

    def missing(self, requirement: str) -> str | None:
        """Ask the adapter, and whether the factory takes what the scenario has to set."""
        if requirement == "success-threshold" and "success_threshold" not in self._accepted:
            return f"{self.name} takes no success_threshold"
        if requirement == "deadline" and "call_timeout" not in self._accepted:
            return (
                f"{getattr(self._factory, '__name__', self.name)} takes no call_timeout; accept it and give the breaker"
                " a deadline of its own, or its callers' timeouts count as nothing"
            )
        return self._adapter.missing(requirement)

    def make(self, settings: Settings) -> Any:
        """Make one of the user's breakers."""
        return self._produce(settings)

    def call(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Call as the adapter does."""
        return self._adapter.call(breaker, func, *args)

    async def call_async(self, breaker: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Await as the adapter does."""
        return await self._adapter.call_async(breaker, func, *args)

    def decorate(self, breaker: Any, func: Callable[..., Any], kind: Kind) -> Any:
        """Decorate as the adapter does."""
        return self._adapter.decorate(breaker, func, kind)

    def state(self, breaker: Any) -> str:
        """Ask the adapter."""
        return self._adapter.state(breaker)

    def retry_after(self, error: BaseException) -> float | None:
        """Ask the adapter."""
        return self._adapter.retry_after(error)

    def _produce(self, settings: Settings) -> Any:
        wanted = {name: getattr(settings, name) for name in self._accepted}
        try:
            made = self._factory(**wanted)
        except (Exception, SystemExit) as error:
            raise TargetError(f"{self.name} raised {error!r} for {wanted}") from error
        if inspect.iscoroutine(made):
            made.close()
            raise TargetError(f"{self.name} is async; expected a plain function that returns a breaker")
        if made is None:
            raise TargetError(f"{self.name} returned None; expected a breaker (is a `return` missing?)")
        if isinstance(made, type):
            raise TargetError(
                f"{self.name} returned the class {made.__name__}; expected a breaker made of it"
            )
        if made is self._sample:
            raise TargetError(f"{self.name} returned the same breaker twice; each scenario needs a new one")
        return made


def _is_breaker(found: Any) -> bool:
    """Whether it is what a factory should make: the most likely slip, and many a breaker can be called."""
    if isinstance(found, type) or inspect.isroutine(found):
        return False
    return _module(found) in _TYPES or callable(getattr(found, "call", None))


def _signature(factory: Callable[..., Any]) -> str:
    """Return the line that a user's factory should begin with."""
    first = "self, *" if inspect.ismethod(factory) else "*"
    return f"def make_breaker({first}, {SIGNATURE}): ..."


def _accepted(factory: Callable[..., Any]) -> tuple[str, ...]:
    names = Settings.__dataclass_fields__
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return tuple(name for name in names if name != "call_timeout")
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return tuple(name for name in names if name != "call_timeout" or name in parameters)
    return tuple(name for name in names if name in parameters)


def _module(sample: Any) -> str:
    module = type(sample).__module__
    ours = "pytest_prodpatterns.patterns.breaker"
    return ours if module.startswith(ours) else module.partition(".")[0]
