"""What conditions the denoiser and what it denoises: text encoders and latent codecs."""
