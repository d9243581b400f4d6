"""From a denoiser and prompts to images."""
