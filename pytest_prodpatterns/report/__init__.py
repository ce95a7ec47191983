"""A timeline told as text and JUnit XML."""
