"""What every room stands on: one-line errors, checks of arguments, trees, settings."""
