"""The built-in trackers, a module each."""
