"""What scenarios do, by subject; the functions that experiment files name."""
