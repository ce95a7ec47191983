"""A timeline told as text, as JUnit XML, and the end of a server as a picture."""

from __future__ import annotations

from pytest_prodpatterns.report._shutdown_picture import shutdown_picture

__all__ = ["shutdown_picture"]
