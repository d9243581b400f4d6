"""Trials as actors of a Ray cluster: nothing outside of this folder knows of Ray."""
