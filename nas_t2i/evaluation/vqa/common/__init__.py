"""What the VQA models in the format of transformers share."""
