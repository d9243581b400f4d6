"""One model of noise, and one prediction of every architecture's final score. NumPy only."""
