"""Where the jitter of a break comes from."""

from __future__ import annotations

from random import Random

from pytest_prodpatterns.lab import ChaosLab, current_lab


class Dice:
    """Random numbers from 0 to 1, one for each break.

    Without numbers of its own it draws from the stream of whichever lab is current, so that an experiment
    replays, and outside of labs from an unseeded one.

    Args:
        name: The breaker's name, which names the lab's stream.
        rng: Where to draw from instead.
    """

    __slots__ = ("_lab", "_name", "_own", "_stream")

    def __init__(self, name: str, rng: Random | None) -> None:
        self._name = name
        self._own = rng
        self._lab: ChaosLab | None = None
        self._stream: Random | None = None

    def __call__(self) -> float:
        if self._own is not None:
            return self._own.random()
        lab = current_lab()
        if self._stream is None or self._lab is not lab:
            self._lab = lab
            self._stream = Random() if lab is None else lab.rng(f"breaker:{self._name}")
        return self._stream.random()


def no_dice() -> float:
    """Return the number that neither lengthens nor shortens a break."""
    return 0.5
