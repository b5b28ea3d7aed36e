"""The complexity of one checkpoint, as the lines that a run's folder stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from examples.grokking.task import Task
from nncomplexity import Divergence, estimate
from nncomplexity.errors import InputError
from nncomplexity.search import Progress, method_named
from nncomplexity.version import __version__

DISTORTIONS = {"loss": "1", "kl": "0.1"}
"""The distortions, each with its usual ε."""


@dataclass(frozen=True)
class Settings:
    """How to measure. `eps` keeps the text of each ε, because that text names the ε's column in the metrics."""

    eps: tuple[str, ...] = ("1",)
    method: str = "tight"
    budget: int | None = None
    seed: int = 0
    distortion: str = "loss"
    """"loss": the change of the mean loss on the training equations, nats per example. "kl": the mean divergence of the answers to all
    equations from the checkpoint's own, nats per example."""

    def __post_init__(self) -> None:
        if not self.eps or len({_number(text) for text in self.eps}) < len(self.eps):
            raise InputError(f"eps: expected one or more distinct values, got {', '.join(self.eps) or 'none'}")
        if self.budget is not None and self.budget < 1:
            raise InputError(f"budget: expected at least 1 evaluation, got {self.budget}")
        if self.distortion not in DISTORTIONS:
            raise InputError(f"distortion: expected {' or '.join(DISTORTIONS)}, got {self.distortion!r}")
        method_named(self.method, self.budget)

    @property
    def kind(self) -> str:
        """The name of such measurements, and of their file: the method, and the distortion if it isn't that of the loss."""
        return self.method if self.distortion == "loss" else f"{self.method}-{self.distortion}"


def settings_for(eps: Sequence[str], method: str, budget: int | None = None, distortion: str = "loss") -> Settings:
    """Settings with the usual ε of the distortion if none is given."""
    return Settings(tuple(eps) or (DISTORTIONS.get(distortion, "1"),), method, budget, distortion=distortion)


def measure(
    weights: Mapping[str, Tensor], task: Task, settings: Settings, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """A line for each ε: the search's report, and the errors of the weights that its file decodes to."""
    eps = [_number(text) for text in settings.eps]
    loss = task.mean_loss if settings.distortion == "loss" else Divergence(task.logits, task.inputs(), probe=0)
    reports = estimate(weights, loss, eps, method=settings.method, budget=settings.budget, seed=settings.seed, progress=progress)
    lines = []
    for text, report in zip(settings.eps, reports, strict=True):
        coarse = report.coarse_weights()
        lines.append(
            {
                "eps": text,
                "method": settings.method,
                "distortion": settings.distortion,
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
