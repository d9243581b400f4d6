"""From bytes to square images."""
