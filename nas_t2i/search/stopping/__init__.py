"""Rules of early stopping, a module each, by the name that budgets give them."""
