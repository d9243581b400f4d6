"""TIFA: its types, its files, how answers are asked for, read and counted."""
