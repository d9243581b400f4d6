"""The best score for its cost, with what is not sure about it."""
