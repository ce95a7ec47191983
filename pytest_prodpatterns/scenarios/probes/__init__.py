"""What scenarios ask of the history, by subject; the promises that experiment files name."""
