"""Run attacks and scores of a finished benchmark again: to compare a row, repair shards, or check stored scores."""
