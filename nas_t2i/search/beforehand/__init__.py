"""What is found out of architectures before the first of them is trained."""
