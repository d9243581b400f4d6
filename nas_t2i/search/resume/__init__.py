"""What is on record of a search, and how a later process goes on from it."""
