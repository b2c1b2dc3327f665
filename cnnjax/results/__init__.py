"""The folder of a run: written once, and read back with a check of every field."""
