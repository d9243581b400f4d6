"""The sources at work, and what they share."""
