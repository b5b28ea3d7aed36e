"""Two small classifiers of handwritten digits: a task module, its training script and the trained checkpoints."""
