"""Encoded pairs on disk, and work on them shared between processes."""
