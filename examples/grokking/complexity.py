"""The complexity of one checkpoint, as the lines that a run's folder stores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from examples.grokking.task import Task
from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.search import Progress, method_named
from nncomplexity.version import __version__


@dataclass(frozen=True)
class Settings:
    """How to measure. `eps` keeps the text of each ε, because that text names the ε's column in the metrics."""

    eps: tuple[str, ...] = ("1",)
    method: str = "tight"
    budget: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.eps or len({_number(text) for text in self.eps}) < len(self.eps):
            raise InputError(f"eps: expected one or more distinct values, got {', '.join(self.eps) or 'none'}")
        if self.budget is not None and self.budget < 1:
            raise InputError(f"budget: expected at least 1 evaluation, got {self.budget}")
        method_named(self.method, self.budget)


def measure(
    weights: Mapping[str, Tensor], task: Task, settings: Settings, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """A line for each ε: the search's report, and the errors of the weights that its file decodes to."""
    eps = [_number(text) for text in settings.eps]
    reports = estimate(
        weights, task.mean_loss, eps, method=settings.method, budget=settings.budget, seed=settings.seed, progress=progress
    )
    lines = []
    for text, report in zip(settings.eps, reports, strict=True):
        coarse = report.coarse_weights()
        lines.append(
            {
                "eps": text,
                "method": settings.method,
                "budget": settings.budget,
                "seed": settings.seed,
                "bits": report.bits,
                "paper_bytes": report.paper_bytes,
                "loss": report.loss,
                "coarse_loss": report.coarse_loss,
                "coarse_train_error": task.error(coarse, "train"),
                "coarse_test_error": task.error(coarse, "test"),
                "evaluations": report.evaluations,
                "seconds": report.seconds,
                "version": __version__,
            }
        )
    return lines


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise InputError(f"eps: expected a finite number of at least 0, got {text!r}")
    return value
