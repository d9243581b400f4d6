"""Searches for several things at once: what a candidate is worth."""
