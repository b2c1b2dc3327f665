"""What five reports state of the networks that they trained, as data."""
