"""What the calls of a pool add up to: who is lost, who ran twice, how many workers were busy at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_prodpatterns.scenarios.probes._pool_history import Told


def counted(made: Sequence[Told]) -> dict[str, int]:
    """Count what became of calls: the checker of a total queue, as Jepsen has it.

    Each call was put in once, so each must come out once. A call that is answered although it never ran got
    somebody else's answer.
    """
    return {
        "answered": sum(call.outcome == "ok" for call in made),
        "lost to an error": sum(call.failed for call in made),
        "hung": sum(call.unanswered for call in made),
        "run twice": sum(len(call.visits) > 1 for call in made),
        "answered twice": sum(call.answers > 1 for call in made),
        "wrong": sum(call.outcome == "wrong" or (call.outcome == "ok" and not call.visits) for call in made),
    }


def excess(count: Mapping[str, int], kills: int, *, again: bool) -> list[str]:
    """Return what is more than a pool may do to its callers, in words.

    Args:
        count: From `counted`.
        kills: How many workers were killed.
        again: Whether the pool runs the tasks of dead workers again.
    """
    limits = {"lost to an error": 0 if again else kills, "hung": 0, "answered twice": 0, "wrong": 0}
    if not again:
        limits["run twice"] = 0
    return [f"at most {limit} {word} expected" for word, limit in limits.items() if count[word] > limit]


def most_inside(made: Sequence[Told]) -> int:
    """Return how many different workers were in tasks of these calls at the same time, at best."""
    steps: list[tuple[int, int, int]] = []
    for call in made:
        for visit in call.visits:
            steps.append((visit.entered, 1, visit.pid))
            steps += [(visit.left, -1, visit.pid)] if visit.left is not None else []
    inside: set[int] = set()
    most = 0
    for _seq, step, pid in sorted(steps):
        (inside.add if step > 0 else inside.discard)(pid)
        most = max(most, len(inside))
    return most


def waited(waiting: Sequence[Told]) -> str:
    """Say for how long callers without an answer were waited for."""
    return f"{max(call.waited for call in waiting):.1f} s"
