"""What is searched: architectures, their families, profiles and spaces."""
