"""Searches replayed on a table: the program's own driver; only the runner and the clock differ."""
