"""The text encoders at work: what needs torch and weights."""
