"""Pictures and pages of runs and results."""
