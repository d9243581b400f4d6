"""Pairs of image and caption."""
