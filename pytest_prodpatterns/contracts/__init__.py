"""Test classes that users subclass to run our scenarios on their own component."""
