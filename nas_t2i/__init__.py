"""nas-t2i: which denoising backbone should I train, for my parameter and compute budget?"""

__version__ = "0.1.0"
