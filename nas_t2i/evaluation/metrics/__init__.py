"""Metrics, a module each, by the name that budgets and commands give them."""
