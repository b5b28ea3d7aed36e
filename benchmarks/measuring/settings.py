"""The effect of each setting of `tight`: the sizes with it halved and doubled, over seeds, on networks on which it was not chosen.

    python benchmarks/measuring/settings.py [--networks 3] [--seeds 5] [--settings learning_rate …]

The networks are perceptrons that this script trains on labels of a random teacher, each with other data; the settings were chosen on others.
Writes benchmarks/results/settings.json, row by row, and prints the table. A setting whose effect is smaller than the spread over seeds
is useless, and should be removed.
"""

import argparse
import math
from dataclasses import fields, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row
from benchmarks.reporting.markdown import table
from nncomplexity import estimate, loss_from
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "settings.json"
FACTORS = (0.5, 1.0, 2.0)
EPS, EFFORT = 0.05, 1024
"""ε, and the steps of a search, a quarter of the default."""
SETTINGS = tuple(field.name for field in fields(Tight) if field.name not in ("budget", "most", "gain"))


def changed(name: str, factor: float) -> Tight:
    """`tight` with one setting multiplied by a factor, within the setting's range."""
    value = getattr(Tight(), name) * factor
    if isinstance(getattr(Tight(), name), int):
        value = max(1, round(value))
    if name in ("target", "soft"):
        value = min(1.0, value)
    return replace(Tight(most=EFFORT), **{name: value})


def network(
    number: int, hidden: int = 48, features: int = 16, classes: int = 5, examples: int = 1200
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A trained perceptron's tensors, its inputs and its labels."""
    generator = torch.Generator().manual_seed(1000 + number)
    x = torch.randn(examples, features, generator=generator)
    y = torch.tanh(x @ torch.randn(features, 12, generator=generator)) @ torch.randn(12, classes, generator=generator)
    labels = y.argmax(1)
    weights = {
        "one": torch.randn(hidden, features, generator=generator) / features**0.5,
        "bias": 0.01 * torch.randn(hidden, generator=generator),
        "two": torch.randn(classes, hidden, generator=generator) / hidden**0.5,
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(outputs(weights, x), labels).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in weights.items()}, x, labels


def outputs(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits (m, classes) of inputs (m, features)."""
    return torch.relu(x @ weights["one"].T + weights["bias"]) @ weights["two"].T


def per_example(weights: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropies (m,)."""
    return cross_entropy(outputs(weights, x), labels, reduction="none")


def measured(number: int, method: Tight, seed: int) -> Row:
    """Bits of one search."""
    weights, x, labels = network(number)
    report = estimate(weights, loss_from(per_example, (x, labels)), EPS, method=method, seed=seed)
    return {"bits": report.bits, "evaluations": report.evaluations, "cpu_seconds": report.cpu_seconds}


def summary(rows: list[Row]) -> str:
    """For each setting, halved and doubled, the geometric mean of the sizes relative to those without a change, and the spread over seeds."""
    lines = []
    for name in dict.fromkeys(row["setting"] for row in rows):
        logs = {
            factor: [math.log(row["bits"]) for row in rows if row["setting"] == name and row["factor"] == factor]
            for factor in FACTORS
        }
        ratios = [f"{math.exp(mean(logs[factor]) - mean(logs[1.0])):.2f}" for factor in (0.5, 2.0)]
        numbers = dict.fromkeys(row["network"] for row in rows)
        spread = [
            stdev([math.log(row["bits"]) for row in rows if (row["setting"], row["network"], row["factor"]) == (name, number, 1.0)])
            for number in numbers
        ]
        lines.append([name, *ratios, f"{mean(spread):.2f}"])
    return table(["setting", "halved", "doubled", "sd of ln over seeds"], lines)


def run(settings: list[str], networks: int, seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"eps": EPS, "steps": EFFORT, "seeds": seeds})
    for name in settings:
        for factor in FACTORS:
            for number in range(networks):
                for seed in range(seeds):
                    key = {"setting": name, "factor": factor, "network": number, "seed": seed}
                    method = changed(name, factor)
                    record.row(key, lambda number=number, method=method, seed=seed: measured(number, method, seed))
        print(name, flush=True)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(summary(run(list(arguments.settings), arguments.networks, arguments.seeds, arguments.output).rows))


if __name__ == "__main__":
    main()
