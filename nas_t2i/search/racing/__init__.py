"""Races: training is given away piece by piece, to who may still be the best."""
