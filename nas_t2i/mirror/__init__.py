"""Studies whose results are at a URL: a working folder here, and what keeps the two alike."""
