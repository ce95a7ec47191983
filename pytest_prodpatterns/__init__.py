"""The public names of pytest-prodpatterns, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
