"""What metrics share, and their models at work."""
