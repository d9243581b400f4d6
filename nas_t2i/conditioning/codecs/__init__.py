"""Latent codecs, a module each, by the name that budgets give them."""
