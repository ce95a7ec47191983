"""`python -m pytest_prodpatterns` is the `prodpatterns` command."""

from __future__ import annotations

from pytest_prodpatterns.cli import main

if __name__ == "__main__":
    main()
