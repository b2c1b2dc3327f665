"""The published systems: their numbers, their reproduction, and the report."""
