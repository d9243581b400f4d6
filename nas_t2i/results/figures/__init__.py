"""Figures of a ranking as plain data; who draws them is another matter."""
