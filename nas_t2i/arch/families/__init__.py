"""Architecture families, one file each: checks its parameters and names its diffusers class."""
