"""Does another layout of a tensor help `tight`? Fused tensors are split into blocks, and convolutions folded into other matrices.

    python benchmarks/measuring/foldings.py [--networks encoder gpt lstm convnet separable adapter] [--trained 6] [--seeds 2] [--eps 0.1 0.01]

Small networks are trained, several of each kind; some are built with a structure that only another layout shows. Each is measured with its
unchanged tensors, and again with some of them presented in another way: the search gets the blocks, or the folded matrix, as separate
tensors, and the loss puts them together. Another shape also changes the ranks with which the search may begin, so the unchanged tensors are
also measured without low rank. If there is structure, the search by itself is measured, too. Writes
benchmarks/results/foldings.json, row by row; `python -m benchmarks.reporting.docs` puts it into docs/.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.cases.folding_networks import HEADS, RECIPES
from benchmarks.cases.networks import ROOT, Case, Weights
from benchmarks.cases.record import Record, Row
from benchmarks.reporting import comparison
from benchmarks.reporting import foldings as report_foldings
from nncomplexity import estimate

OUTPUT = ROOT / "benchmarks" / "results" / "foldings.json"


@dataclass(frozen=True)
class Presentation:
    """A tensor as other tensors with the same elements, and back."""

    apart: Callable[[Tensor], Sequence[Tensor]]
    together: Callable[[Sequence[Tensor], torch.Size], Tensor]
    """Makes the tensor from these tensors and its shape."""


def blocks(count: int, axis: int) -> Presentation:
    """The tensor as `count` blocks of rows (axis 0) or columns (axis 1)."""
    return Presentation(lambda tensor: tensor.chunk(count, axis), lambda parts, _: torch.cat(list(parts), axis))


def folded(*rows: int) -> Presentation:
    """A kernel (out, in, height, width) as a matrix with these axes along its rows and the others along its columns."""
    order = [*rows, *(axis for axis in range(4) if axis not in rows)]
    back = [order.index(axis) for axis in range(4)]

    def apart(tensor: Tensor) -> Sequence[Tensor]:
        return [tensor.permute(order).reshape(prod(tensor.shape[axis] for axis in rows), -1)]

    def together(parts: Sequence[Tensor], shape: torch.Size) -> Tensor:
        return parts[0].reshape([shape[axis] for axis in order]).permute(back)

    return Presentation(apart, together)


AS_IT_IS = "as it is"
"""Keeps the search from taking any tensor in pieces."""
ALL_DENSE = "as it is, all dense"
"""The control: every tensor as it is, and dense from start to end."""
LAID_OUT = "as the search takes it"
_ITSELF = Presentation(lambda tensor: [tensor], lambda parts, _: parts[0])


@dataclass(frozen=True)
class Subject:
    """A kind of network, and the tensors of it that can be presented in several ways."""

    tensors: Callable[[str, Tensor], bool]
    presentations: dict[str, Presentation]
    structured: bool = False
    """Whether the search itself should find the structure. For the others it takes the tensors as they are."""

    @property
    def methods(self) -> tuple[str, ...]:
        return (AS_IT_IS, ALL_DENSE, *self.presentations, *((LAID_OUT,) if self.structured else ()))

    def presented(self, case: Case, method: str) -> Case:
        """The same network with these tensors presented in this way."""
        way = self.presentations.get(method, _ITSELF)
        shapes = {name: tensor.shape for name, tensor in case.weights.items() if self.tensors(name, tensor)}
        parts = {f"{name}/{i}": part for name in shapes for i, part in enumerate(way.apart(case.weights[name]))}
        weights = {name: tensor for name, tensor in case.weights.items() if name not in shapes}
        weights |= {name: part.clone(memory_format=torch.contiguous_format) for name, part in parts.items()}
        keys = {name: [key for key in parts if key.rpartition("/")[0] == name] for name in shapes}

        def loss(weights: Weights) -> object:
            whole = {name: tensor for name, tensor in weights.items() if name not in parts}
            for name, shape in shapes.items():
                whole[name] = way.together([weights[key] for key in keys[name]], shape)
            return case.loss_fn(whole)

        return Case(case.name, case.sha256, weights, loss)


SUBJECTS = {
    "encoder": Subject(
        lambda name, _: name.endswith("in_proj_weight"),
        {"q, k, v apart": blocks(3, 0), "q, k, v apart by head": blocks(3 * HEADS, 0)},
    ),
    "gpt": Subject(
        lambda name, _: name.endswith("c_attn"),
        {"q, k, v apart": blocks(3, 1), "q, k, v apart by head": blocks(3 * HEADS, 1)},
    ),
    "lstm": Subject(lambda name, _: name.startswith("lstm.weight"), {"gates apart": blocks(4, 0)}),
    "convnet": Subject(
        lambda _, tensor: tensor.ndim == 4 and tensor.shape[1] > 1,
        {"out·in × k²": folded(0, 1), "out·k × in·k": folded(0, 2), "in × out·k²": folded(1)},
    ),
    "separable": Subject(lambda _, tensor: tensor.ndim == 4, {"out·k × in·k": folded(0, 2)}, structured=True),
    "adapter": Subject(lambda *_: True, {"q, k, v apart": blocks(3, 0)}, structured=True),
}


BUDGET = 400
"""Loss evaluations for each file, the same for all rows."""


def measure(case: Case, method: str, eps: float, seed: int) -> Row:
    """One row: the bits of `case` for this presentation, and the bits of the presented tensors."""
    low_rank = patch("nncomplexity.search.initial.ranks_that_pay", lambda _: [0]) if method == ALL_DENSE else nullcontext()
    whole = nullcontext() if method == LAID_OUT else patch("nncomplexity.search.tight.with_layouts", lambda problem: problem)
    with low_rank, whole:
        found = estimate(case.weights, case.loss_fn, eps, seed=seed, budget=BUDGET)
    return {
        "bits": found.bits,
        "bits_of_presented": sum(layer.bits for layer in found.layers if "/" in layer.name),
        "within": found.within,
        "distortion": abs(case.loss(found.coarse_weights()) - found.loss),
        "evaluations": found.evaluations,
    }


def run(networks: Sequence[str], trained: int, seeds: int, every_eps: Sequence[float], output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"trained": trained, "seeds": seeds, "eps": list(every_eps)})
    for network in networks:
        subject = SUBJECTS[network]
        for number in range(trained):
            case = RECIPES[network].trained(network, number)
            record.cases[case.name] = case.about()
            for method in subject.methods:
                presented = subject.presented(case, method)
                for eps in every_eps:
                    for seed in range(seeds):
                        key = {"case": case.name, "sha256": case.sha256, "eps": eps, "method": method, "seed": seed}
                        row = record.row(key, partial(measure, presented, method, eps, seed))
                        print(f"{case.name} ε = {eps:g}, {method}, seed {seed}: {row['bits'] // 8} bytes", flush=True)
    record.save()
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SUBJECTS, default=tuple(SUBJECTS))
    parser.add_argument("--trained", type=int, default=6, help="how many networks of each kind")
    parser.add_argument("--seeds", type=int, default=2, help="searches for each network and ε")
    parser.add_argument("--eps", type=float, nargs="+", default=(0.1, 0.01))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run(arguments.networks, arguments.trained, arguments.seeds, arguments.eps, arguments.output)
    print(f"\n{report_foldings.foldings(comparison.read(arguments.output))}")


if __name__ == "__main__":
    main()
