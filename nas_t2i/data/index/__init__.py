"""From sources to the index of the pairs that are kept."""
