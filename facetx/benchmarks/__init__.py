"""What makes a number trustworthy: the catalog, receipts, result files, paired tests, input checks."""
