"""Scores of pictures by pretrained models: CLIP score, HPSv2, ImageReward, FID."""
