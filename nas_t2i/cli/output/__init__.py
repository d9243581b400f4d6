"""What commands print: progress, plans, tables of an evaluation, numbers for people."""
