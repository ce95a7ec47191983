"""The `prodpatterns` command."""
