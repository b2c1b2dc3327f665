"""Published runs trained again: what to train, and the results."""
