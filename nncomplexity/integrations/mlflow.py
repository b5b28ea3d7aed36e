"""Writes complexity to MLflow."""

import mlflow

from nncomplexity.errors import InputError
from nncomplexity.integrations.writing import ComplexityWriter, Files


class MLflowWriter(ComplexityWriter):
    """Writes rows and reports to a run. Files are its artifacts, in the folder `complexity`, with a subfolder for each step.

    Args:
        run_id: the id of a run; None is the active run.
        prefix: the beginning of the names of all values.

    Raises:
        InputError: there is no active run, or `prefix` isn't usable.
    """

    def __init__(self, run_id: str | None = None, prefix: str = "complexity/") -> None:
        super().__init__(prefix)
        if run_id is None:
            active = mlflow.active_run()
            if active is None:
                raise InputError("run_id: expected a run of MLflow, got none; call mlflow.start_run() first, or give run_id")
            run_id = active.info.run_id
        self._run_id = run_id
        self._client = mlflow.MlflowClient()

    def _write(self, values: dict[str, float], step: float) -> None:
        # MLflow's steps are whole numbers.
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=round(step), synchronous=True)

    def _keep(self, files: Files, name: str, step: float) -> None:
        folder = f"{self._prefix.strip('/') or 'complexity'}/{name}_step_{step:g}"
        for path in (files.page, *files.others, *([files.picture] if files.picture else [])):
            self._client.log_artifact(self._run_id, str(path), folder)
