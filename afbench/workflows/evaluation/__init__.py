"""Run localizers and defences over a benchmark: submissions, tables, gates."""
