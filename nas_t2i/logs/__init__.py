"""Logs that notice what was done to them."""
