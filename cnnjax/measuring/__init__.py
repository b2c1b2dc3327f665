"""Time and memory, and which strategy is the fastest here."""
