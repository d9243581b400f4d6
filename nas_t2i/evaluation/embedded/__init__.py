"""The embedded benchmark: its prompts, its questions, and how they are answered from pixels."""
