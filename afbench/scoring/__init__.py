"""Scores of submissions: counting, tables, comparison, boards."""
