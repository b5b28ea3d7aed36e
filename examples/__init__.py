"""Complete tasks on real data, each with its own README."""
