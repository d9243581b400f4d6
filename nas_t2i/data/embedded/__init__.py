"""The embedded data set of coloured shapes."""
