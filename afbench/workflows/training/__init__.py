"""Train defences on a benchmark."""
