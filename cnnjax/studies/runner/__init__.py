"""Train published runs as processes: which ones, on which cores, with progress."""
