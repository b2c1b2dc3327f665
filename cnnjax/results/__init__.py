"""The folder of a run: written once; every field is checked when it is read back."""
