"""Complete tasks on real data, each with its own README, and extensions of the package."""
