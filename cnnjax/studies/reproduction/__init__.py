"""Published runs trained again: what there is to do, and what came of it."""
