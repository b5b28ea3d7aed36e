"""How much does a search cost for each tensor and evaluation, if there are many small tensors?

    .venv/bin/python benchmarks/measuring/many_tensors.py

It prints processor time for each tensor and evaluation, without the time of the loss, for matrices (8, 8) searched by each method.
"""

import time

import torch
from torch import Tensor

from nncomplexity import estimate

COUNTS = (300, 1500)
METHODS = ("tight", "quantize")


def measured(count: int, method: str, budget: int = 30) -> float:
    """Seconds of processor time for each tensor and evaluation of a search."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"experts.{index}.w": torch.randn(8, 8, generator=generator) for index in range(count)}
    wanted = torch.stack(list(weights.values()))

    def loss(tensors: dict[str, Tensor]) -> Tensor:
        return (torch.stack(list(tensors.values())) - wanted).square().mean()

    begin = time.process_time()
    loss(weights)
    once = time.process_time() - begin
    begin = time.process_time()
    report = estimate(weights, loss, 0.1, method=method, budget=budget)
    return (time.process_time() - begin - report.evaluations * once) / (count * report.evaluations)


def main() -> None:
    torch.set_num_threads(1)
    measured(2, "tight")  # imports that happen at the first use
    for method in METHODS:
        for count in COUNTS:
            print(f"{method}, {count} tensors: {measured(count, method) * 1e3:.3f} ms a tensor and evaluation")


if __name__ == "__main__":
    main()
