"""From a space and a budget to ranked trials."""
