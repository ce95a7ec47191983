"""The `prodpatterns` command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and end the process with its exit code.

    Args:
        arguments: Words of the command line, without the program's name; by default those of the process.
    """
    from pytest_prodpatterns.cli._commands import prodpatterns  # noqa: PLC0415 (click only when used)

    prodpatterns.main(args=None if arguments is None else list(arguments), prog_name="prodpatterns")
