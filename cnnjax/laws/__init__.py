"""What is true of every strategy, and by how much it may be missed."""
