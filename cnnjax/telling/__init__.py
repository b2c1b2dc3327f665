"""What a terminal is told, and pictures."""
