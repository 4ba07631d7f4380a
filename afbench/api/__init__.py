"""The functions behind ``import afbench``: one for each command, with its options as keywords; they return data and print nothing."""
