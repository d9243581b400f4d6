"""From a checkpoint to scores: sampling, questions, answers, statistics."""
