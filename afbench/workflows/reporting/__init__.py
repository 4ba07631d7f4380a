"""Draw a benchmark's images, compare figures with the paper's, and publish the leaderboard."""
