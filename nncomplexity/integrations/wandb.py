"""Writes complexity to Weights & Biases."""

import re

import wandb

from nncomplexity.errors import InputError
from nncomplexity.integrations.writing import ComplexityWriter, Files


class WandbWriter(ComplexityWriter):
    """Writes rows and reports to a run. They have their own axis, `complexity/step`, so that late rows are kept.

    W&B drops values whose step is before that of the run. The numbers of a network are often known only when training is at a later step.
    A loop that logs with `step=` should call the writer after its own log: W&B would drop later values with the same step.

    Args:
        run: a run; None is the run that `wandb.init` started last.
        prefix: the beginning of the names of all values.

    Raises:
        InputError: there is no run, or `prefix` isn't usable.
    """

    def __init__(self, run: "wandb.Run | None" = None, prefix: str = "complexity/") -> None:
        super().__init__(prefix)
        run = run or wandb.run
        if run is None:
            raise InputError("run: expected a run of W&B, got none; call wandb.init() first, or give run")
        self._run, self._axis = run, f"{prefix}step"
        run.define_metric(self._axis, hidden=True)
        run.define_metric(f"{prefix}*", step_metric=self._axis)

    def _write(self, values: dict[str, float], step: float) -> None:
        self._run.log({**values, self._axis: step})

    def _keep(self, files: Files, name: str, step: float) -> None:
        shown: dict[str, object] = {f"{self._prefix}report": wandb.Html(files.page.read_text(encoding="utf-8"), inject=False)}
        if files.picture:
            shown[f"{self._prefix}rate_distortion"] = wandb.Image(str(files.picture))
        self._run.log({**shown, self._axis: step})
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", f"complexity-{name}"), type="complexity", metadata={"step": step})
        for path in (files.page, *files.others):
            artifact.add_file(str(path))  # a copy, because the folder is deleted afterwards
        self._run.log_artifact(artifact)
