"""MANY devices: the mesh, who holds what, and the body that each device runs."""
