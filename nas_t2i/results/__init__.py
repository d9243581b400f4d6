"""What came out: stored trials, rankings, exports."""
