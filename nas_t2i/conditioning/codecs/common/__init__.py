"""The codecs at work: what needs torch and weights."""
