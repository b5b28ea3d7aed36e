"""A distortion of your own: the total variation distance between the predictions of the two networks."""

import torch
from safetensors.torch import load_file
from torch import Tensor

from examples.digits import task
from nncomplexity import Divergence, estimate


def total_variation(original: Tensor, outputs: Tensor) -> Tensor:
    """½·Σ_c |p_c - q_c| of the two softmax distributions, from logits (m, classes): (m,), each in [0, 1]; 0 for equal outputs."""
    return (original.softmax(-1) - outputs.softmax(-1)).abs().sum(-1) / 2


def largest_change(weights: dict[str, Tensor]) -> Tensor:
    """The same idea as a plain loss: the largest distance on any image. The original's own loss is 0."""
    return total_variation(ORIGINAL, task.logits(weights, IMAGES)).max()


IMAGES, _ = task.split("train")
WEIGHTS = load_file("examples/digits/checkpoints/convnet.safetensors")
with torch.no_grad():
    ORIGINAL = task.logits(WEIGHTS, IMAGES)

if __name__ == "__main__":
    mean = estimate(WEIGHTS, Divergence(task.logits, IMAGES, kind=total_variation), eps=0.05, budget=60)
    print(f"mean distance within 0.05: {mean.distortion <= 0.05}, by {mean.subject.divergence}")
    worst = estimate(WEIGHTS, largest_change, eps=0.5, budget=60)
    print(f"largest distance within 0.5: {worst.distortion <= 0.5}, loss of the original: {worst.loss}")
