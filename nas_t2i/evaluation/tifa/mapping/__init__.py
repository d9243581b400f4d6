"""Ways to read a free-form answer as one of the choices."""
