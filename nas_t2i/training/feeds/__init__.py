"""Sample number n of a run: pairs, captions, latents and text."""
