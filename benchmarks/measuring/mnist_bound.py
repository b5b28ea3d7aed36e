"""The smallest bound on the test error of networks on MNIST, with a prior that doesn't depend on data, the test error and the holdout bound.

    python benchmarks/measuring/mnist_bound.py --data mnist.npz --networks FOLDER
    python benchmarks/measuring/mnist_bound.py --data mnist.npz                    only the small convnet, which is trained here

`benchmarks/cases/mnist.py` says where to get MNIST.
`best_bound` searches the files of several ε at once and takes the smallest bound, with probability 1 - δ over the draw of all training images;
the search itself may use only the first --examples of them, to be faster. The training error is always that on all training images.
Writes benchmarks/results/mnist_bound.json, row by row. benchmarks/cases/published.py has the bounds of others.
"""

import argparse
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cases.mnist import CHANCE, NAMES, Images, logits, networks
from benchmarks.cases.networks import ROOT, Case
from benchmarks.cases.record import Record, Row
from nncomplexity import best_bound

OUTPUT = ROOT / "benchmarks" / "results" / "mnist_bound.json"
EPS = (0.2, 0.1, 0.05)
DELTA = 0.05
SHAPES = {
    "conv1.weight": (8, 1, 5, 5),
    "conv1.bias": (8,),
    "conv2.weight": (16, 8, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (10, 256),
    "fc1.bias": (10,),
}
"""The small convnet's 5,994 parameters."""


@dataclass(frozen=True)
class Training:
    """How the small convnet is trained: cross-entropy plus `shrink` times the sum of all weights' magnitudes, which leaves many near 0."""

    epochs: int = 12
    batch: int = 128
    rate: float = 4e-3
    shrink: float = 2e-4
    seed: int = 0

    def run(self, images: Images) -> dict[str, Tensor]:
        """Trained weights, by Adam with a learning rate that falls to 0."""
        generator = torch.Generator().manual_seed(self.seed)
        weights = {name: _start(shape, generator).requires_grad_() for name, shape in SHAPES.items()}
        optimizer = torch.optim.Adam(weights.values(), self.rate)
        steps = self.epochs * -(-len(images.labels) // self.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=steps)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(images.labels), generator=generator).split(self.batch):
                optimizer.zero_grad()
                loss = F.cross_entropy(logits(weights, images.pixels[rows]), images.labels[rows])
                (loss + self.shrink * sum(weight.abs().sum() for weight in weights.values())).backward()
                optimizer.step()
                schedule.step()
        return {name: weight.detach() for name, weight in weights.items()}


def _start(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """He's initialization: normal with variance 2 / inputs; biases are 0."""
    inputs = torch.Size(shape[1:]).numel()
    return torch.randn(shape, generator=generator) * (2 / inputs) ** 0.5 if len(shape) > 1 else torch.zeros(shape)


@dataclass(frozen=True)
class Searching:
    """How the files are searched.

    Attributes:
        eps: of the files.
        examples: the images that the search looks at; all where it is None.
        budget: evaluations for each ε; None searches until it has converged.
    """

    eps: tuple[float, ...] = EPS
    examples: int | None = None
    budget: float | None = None


def bounded(case: Case, images: tuple[Images, Images], how: Searching, seed: int, folder: Path) -> Row:
    """One row: the smallest bound, its file's ε, bytes and errors, and the holdout bound of the original."""
    train, test = images
    begin = time.process_time()
    best = best_bound(
        case.weights,
        train.first(how.examples).loss(case.name.removeprefix("mnist/")),
        risk=train.error,
        n=len(train.labels),
        chance=CHANCE,
        delta=DELTA,
        outputs=logits,
        holdout=(test.pixels, test.labels),
        eps=list(how.eps),
        budget=how.budget,
        seed=seed,
    )
    decoded = best.report.coarse_weights()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{case.name.removeprefix('mnist/')}-bound-{best.report.eps:g}-{seed}-{best.report.bits // 8}.coarse"
    best.report.save(file)
    assert best.holdout is not None
    return {
        "bound": best.value,
        "chosen_eps": best.report.eps,
        "bytes": best.report.bits // 8,
        "train_error": best.bound.risk,
        "test_error": test.error(decoded),
        "holdout_bound": best.holdout.value,
        "original_test_error": best.holdout.errors / best.holdout.n,
        "cpu_seconds": round(time.process_time() - begin, 1),
        "sentence": best.sentence(),
        "file": file.name,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz, with train_x, train_y, test_x and test_y")
    parser.add_argument(
        "--networks", type=Path, help="a folder with lenet300.safetensors, lenet5.safetensors; none: the small one alone"
    )
    parser.add_argument("--cases", nargs="+", choices=("small", *NAMES), default=("small", *NAMES))
    parser.add_argument("--eps", type=float, nargs="+", default=EPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--examples", type=int, help="training images of the search; all where it isn't given")
    parser.add_argument("--budget", type=float, help="evaluations for each ε; without it, searches go on until they have converged")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--files", type=Path, default=OUTPUT.with_name("mnist"), help="the folder of the files")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train, test = Images.read(given.data, "train"), Images.read(given.data, "test")
    how = Searching(tuple(given.eps), given.examples, given.budget)
    record = Record.open(given.output, {"eps": list(given.eps), "seeds": list(given.seeds), "delta": DELTA})
    cases = networks(given.networks, train, tuple(given.cases)) if given.networks and set(given.cases) & set(NAMES) else []
    if "small" in given.cases:
        cases.insert(0, Case("mnist/small", "", Training().run(train), train.loss("small")))
    for case in cases:
        record.cases[case.name] = {**case.about(), "train_error": train.error(case.weights), "test_error": test.error(case.weights)}
        for seed in given.seeds:
            key = {"case": case.name, "eps": list(how.eps), "examples": how.examples, "budget": how.budget, "seed": seed}
            row = record.row(key, partial(bounded, case, (train, test), how, seed, given.files))
            print(
                f"{case.name}, seed {seed}: bound {row['bound']:.1%} at {row['bytes']:,} bytes, ε = {row['chosen_eps']:g}",
                flush=True,
            )
    record.save()


if __name__ == "__main__":
    main()
