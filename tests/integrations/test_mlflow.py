"""The content of a run in a local MLflow store: values at their steps under accepted names, and artifacts."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch

from nncomplexity import load
from nncomplexity.errors import InputError
from nncomplexity.integrations import MLflowWriter
from tests.written import NUMBERS, reports, row, value_in


@pytest.fixture(autouse=True)
def store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((workplace / "mlruns").as_uri())
    yield workplace
    mlflow.set_tracking_uri(before)


def test_rows_and_a_report() -> None:
    rows, given = [row(3), row(7, seed=1)], reports()
    with mlflow.start_run() as run:
        writer = MLflowWriter()
        for one in (*rows, None, {"status": "failed", "step": 8}):
            writer.row(one)
        writer.report(given, name="net", step=9)
    client = mlflow.MlflowClient()
    for name in NUMBERS:
        found = client.get_metric_history(run.info.run_id, f"complexity/{name}")
        expected = [(one["step"], value_in(one, name)) for one in rows]
        assert [(one.step, one.value) for one in found if one.step < 9] == expected
    assert client.get_metric_history(run.info.run_id, "complexity/bits_at_0.1")[-1].value == given[1].bits
    files = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "complexity/net_step_9")}
    assert files == {"net_0.5.coarse", "net_0.1.coarse", "net_0.coarse", "report.html", "report.json", "rate_distortion.png"}
    path = client.download_artifacts(run.info.run_id, "complexity/net_step_9/net_0.1.coarse")
    assert torch.equal(load(path)["w"], given[1].coarse_weights()["w"])


def test_a_run_is_needed_and_may_be_named() -> None:
    with pytest.raises(InputError, match="run_id: expected a run of MLflow, got none"):
        MLflowWriter()
    with mlflow.start_run() as run:
        pass
    MLflowWriter(run.info.run_id, prefix="").row({"status": "measured", "step": 2, "loss": 0.5})
    assert mlflow.MlflowClient().get_run(run.info.run_id).data.metrics == {"loss": 0.5}
