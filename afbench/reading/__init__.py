"""What users import: open a benchmark, pair every attacked image with its original, read its figures as a DataFrame."""
