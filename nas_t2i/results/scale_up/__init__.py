"""From a ranking to one full-scale run: its space, budget and command, what it takes and yields."""
