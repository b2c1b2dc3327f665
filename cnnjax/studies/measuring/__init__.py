"""Timing, and advice on the fastest strategy for this machine."""
