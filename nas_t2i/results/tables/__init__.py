"""A ranking as a table: on the screen, in files, in a data frame."""
