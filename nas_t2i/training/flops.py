"""Training compute."""

from __future__ import annotations


def training_flops(gmacs: float, images: int) -> float:
    """Return training compute in FLOPs: 3 x forward FLOPs x images, a MAC being two FLOPs.

    `gmacs` are 1e9 multiply-adds of one forward pass at batch 1. Source: the paper's
    C = 3 x (FLOPs of one forward pass) x batch x steps; a backward pass costs two forward ones.
    """
    return 3.0 * 2.0 * gmacs * 1e9 * images
