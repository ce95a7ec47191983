"""One seed for everything random, and a stream of its own for each name."""

from __future__ import annotations

import hashlib
import random
import secrets
from typing import Final

SEED_LIMIT: Final = 2**32
"""Seeds are whole numbers from 0 up to, and without, this one: short enough to type."""


def new_seed() -> int:
    """Return a fresh seed from the system's source of randomness."""
    return secrets.randbelow(SEED_LIMIT)


def parse_seed(value: object) -> int:
    """Return `value` as a seed.

    Raises:
        ValueError: When it is not a whole number from 0 to 4294967295; the text says what it was.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or int(text) >= SEED_LIMIT:
        raise ValueError(f"a chaos seed is a whole number from 0 to {SEED_LIMIT - 1}, not {value!r}")
    return int(text)


def stream(seed: int, test: str, name: str) -> random.Random:
    """Return an independent random stream that depends on (seed, test id, name) alone.

    The parts are length-prefixed before they are hashed, so no two triples share a stream by accident.
    """
    parts = (str(seed), test, name)
    key = "".join(f"{len(part)}:{part}" for part in parts)
    return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
