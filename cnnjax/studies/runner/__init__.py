"""Published runs trained as processes: which, on which cores, and how far they are."""
