"""Studies as other programs show them: TensorBoard, W&B, MLflow, or a tracker of one's own."""
