"""Finding a user's factory by its name, in a process where nothing of the user's is loaded yet."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets._base import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable


def find(module: str, path: str, file: str | None, name: str) -> Callable[..., Any]:
    """Return the factory.

    Args:
        module: The module that it is in.
        path: Its name there; for a method, the class is made without arguments.
        file: The file of the module, for one that cannot be imported by its name.
        name: What reports call it.

    Raises:
        TargetError: There is none, or its module raises, or it is an executor itself.
    """
    try:
        found = _attribute(_imported(module, file), path)
    except (ImportError, AttributeError) as error:
        raise TargetError(f"cannot load the factory {name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise TargetError(f"cannot load the factory {name!r}: {module} raised {error!r}") from error
    kind = type(found).__name__
    if hasattr(found, "submit") and not isinstance(found, type):
        raise TargetError(
            f"{name} is a {kind}, not a factory of executors;"
            f" write: def make_executor(*, num_workers): return {kind}(...)"
        )
    if not callable(found):
        raise TargetError(
            f"{name!r} is of type {kind}; expected a callable that makes an Executor of num_workers"
        )
    return found  # type: ignore[no-any-return]


def parameters(factory: Callable[..., Any]) -> dict[str, bool]:
    """Return the names of the arguments that a factory takes by keyword, and whether it insists on them."""
    try:
        found = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a built-in without a signature
        return {}
    return {
        parameter.name: parameter.default is parameter.empty
        for parameter in found
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def _attribute(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        owner, found = found, getattr(found, part)
        if isinstance(owner, type) and inspect.isfunction(inspect.getattr_static(owner, part)):
            found = getattr(owner(), part)
    return found


def _imported(module: str, file: str | None) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if file is None or error.name != module.partition(".")[0]:
            raise
    specification = importlib.util.spec_from_file_location(module, file)
    if specification is None or specification.loader is None:
        raise ImportError(f"cannot load {file}")
    loaded = importlib.util.module_from_spec(specification)
    sys.modules[module] = loaded
    specification.loader.exec_module(loaded)
    return loaded
