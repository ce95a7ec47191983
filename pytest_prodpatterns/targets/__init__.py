"""What a scenario attacks: one protocol a subject, adapters to ours and to other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_prodpatterns.targets._base import Startable, Target, TargetError

if TYPE_CHECKING:
    from types import ModuleType

SUBJECTS = ("breaker", "pool", "server")


def resolve(subject: str, spec: str) -> Target:
    """Return the target that `spec` names.

    Args:
        subject: What kind of target, for example `breaker`.
        spec: `ours`, the name of a library, or `module:callable` for a factory of the user's own.

    Raises:
        TargetError: When there is no such target, or its library is not installed.
    """
    target: Target = _catalogue(subject).resolve(spec)
    return target


def known(subject: str) -> list[str]:
    """Return the names that `resolve` knows, ours first."""
    names: list[str] = _catalogue(subject).known()
    return names


def from_instances(subject: str, make: Any, **options: Any) -> Target:
    """Return a target built of the objects that a user's own factory makes.

    Args:
        subject: What kind of target.
        make: The factory; its keyword arguments depend on the subject.
        options: What the subject's catalogue needs besides, for example how to call a stranger.
    """
    target: Target = _catalogue(subject).from_instances(make, **options)
    return target


def _catalogue(subject: str) -> ModuleType:
    if subject == "breaker":
        from pytest_prodpatterns.targets import breaker  # noqa: PLC0415

        return breaker
    if subject == "pool":
        from pytest_prodpatterns.targets import pool  # noqa: PLC0415

        return pool
    if subject == "server":
        from pytest_prodpatterns.targets import server  # noqa: PLC0415

        return server
    import difflib  # noqa: PLC0415 - a worker that imports its task passes here, and needs none of it

    near = difflib.get_close_matches(subject, SUBJECTS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise TargetError(f"no targets of the subject {subject!r}; there are: {', '.join(SUBJECTS)}{hint}")


__all__ = ["SUBJECTS", "Startable", "Target", "TargetError", "from_instances", "known", "resolve"]
