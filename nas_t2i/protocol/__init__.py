"""What is held fixed: the budget."""
