"""Shared by all rooms: one-line errors, checks of arguments, trees, JAX's settings."""
