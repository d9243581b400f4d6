"""Visual question answering back ends, one file each."""
