"""Sources of pairs, a module each, by the name that budgets give them."""
