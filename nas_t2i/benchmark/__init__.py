"""Tabular benchmarks: learning curves of whole spaces in one file, and searches on them."""
