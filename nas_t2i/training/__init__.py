"""One trial's training: noise schedule, engine, loop, checkpoint."""
