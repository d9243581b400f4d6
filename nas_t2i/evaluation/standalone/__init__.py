"""Metrics of any images, from a request to a result file: ``nas-t2i evaluate``."""
