"""Laws and statements from records: how scores grow, what is quicker, the paper's findings."""
