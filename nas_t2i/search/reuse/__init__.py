"""What another study under the same budget trained already, and how it stands in for training."""
