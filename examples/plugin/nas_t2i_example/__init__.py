"""A family and a metric for nas-t2i."""
