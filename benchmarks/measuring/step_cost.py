"""What does a step of a descent cost beside the gradient of the loss?

    python -m benchmarks.measuring.step_cost [--steps 400]      # half a minute of one core
    python -m benchmarks.measuring.step_cost --table

It times the steps of one cycle on shipped networks, once with all tensors dense and once with matrices in factors. Times are medians of
processor time over the steps. `loss` is the loss and its gradient by autograd alone, on as many examples as a step; `gradient` is the same as a
step has it, with the state that it restores; `step` is everything. The parts are those of a step without its gradient. Writes
benchmarks/results/step_cost.json.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.cases.networks import ROOT, SHIPPED, Case, find_cases
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.markdown import table
from nncomplexity.codecs import Entropy
from nncomplexity.network import Distortion
from nncomplexity.search import Problem, Tight
from nncomplexity.search.batches import Batches
from nncomplexity.search.blocks import Block
from nncomplexity.search.descent import Conditions, Cycle
from nncomplexity.search.fallback import Fallback
from nncomplexity.search.initial import at_the_weights
from nncomplexity.search.tensors import Tensors
from nncomplexity.search.trials import Trials

OUTPUT = ROOT / "benchmarks" / "results" / "step_cost.json"
CASES = ("digits/convnet", "digits/mlp", "grokking/grokked")
EPS, COARSENESS, RANK = 0.1, 1.5, 4
"""ε, the step size in typical weights, and the rank of the factors."""
PARTS = ("weights", "pulls", "pressure", "weigh", "move", "scale")
"""The methods of `Block` that a step calls."""
TIMED = ((Distortion, "gradient"), (Cycle, "_step"), *((Block, name) for name in PARTS))


def timed(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """The function; the processor time of each call is added to `times`."""

    def call(*arguments: Any) -> Any:
        begin = time.process_time()
        found = function(*arguments)
        if isinstance(found, Iterator):
            found = iter(list(found))
        times.append(time.process_time() - begin)
        return found

    return call


def measured(case: Case, rank: int, steps: int) -> Row:
    """The median seconds of a step and of its parts."""
    times: dict[str, list[float]] = {name: [] for _, name in TIMED}
    settings = Tight()
    with Distortion(case.weights, case.loss_fn) as distortion, ExitStack() as patches:
        problem = Problem(distortion, Entropy(), 0)
        trials = Trials(problem, Tensors(problem), EPS, math.inf)
        batches = Batches(distortion, settings.batch, 0)
        moved = [spec.name for spec in trials.tensors.with_gradient()]
        alone = [autograd_seconds(case, moved, batches) for _ in range(steps)]
        latents = at_the_weights(trials, COARSENESS, dict.fromkeys(moved, rank))
        for owner, name in TIMED:
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name), times[name])))
        fixed = Fallback(trials).without_gradient()
        Cycle(trials, settings, Conditions(fixed=fixed), latents, batches, steps).run()
    # The slopes of the rate are computed in few of the steps.
    parts = {name: median(times[name]) * len(times[name]) / len(times["_step"]) for name in PARTS}
    gradient, step = median(times["gradient"]), median(times["_step"])
    return {"parameters": problem.skeleton.parameters, "loss": median(alone), "gradient": gradient, "step": step, **parts}


def autograd_seconds(case: Case, moved: list[str], batches: Batches) -> float:
    """The processor time of a loss on a minibatch and its gradient, by autograd alone."""
    rows = batches.next().rows
    weights = {name: tensor.clone() for name, tensor in case.weights.items()}
    leaves = [weights[name].requires_grad_() for name in moved]
    begin = time.process_time()
    loss_fn = case.loss_fn if rows is None else case.loss_fn.part(rows)  # type: ignore[attr-defined]
    torch.autograd.grad(loss_fn(weights), leaves)
    return time.process_time() - begin


def summary(rows: list[Row]) -> str:
    """Microseconds of each part, and what the step takes beside its gradient as a share of the gradient."""
    names = ("loss", "gradient", "step", *PARTS)
    lines = [
        [row["case"], row["form"], str(row["parameters"]), *(f"{1e6 * row[name]:.0f}" for name in names), f"{share(row):.2f}"]
        for row in rows
    ]
    return table(["network", "form", "parameters", *names, "step / gradient − 1"], lines)


def share(row: Row) -> float:
    """The time of a step without its gradient, as a share of the gradient's."""
    return (row["step"] - row["gradient"]) / row["gradient"]


def run(steps: int, output: Path, cases: tuple[str, ...] = CASES) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"steps": steps, "eps": EPS, "coarseness": COARSENESS, "rank": RANK})
    for case in find_cases(SHIPPED, cases):
        for form, rank in (("dense", 0), ("factors", RANK)):
            record.row({"case": case.name, "form": form}, lambda case=case, rank=rank: measured(case, rank, steps))
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = Record.open(arguments.output, {}) if arguments.table else run(arguments.steps, arguments.output)
    print(summary(record.rows))


if __name__ == "__main__":
    main()
