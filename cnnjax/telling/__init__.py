"""Text for the terminal, and pictures."""
