"""A study as one page that needs nothing else: what was found, how sure it is, where from."""
