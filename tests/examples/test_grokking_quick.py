"""The quick preset of the grokking example, made even shorter: complexity rises with memorization, and falls when the rule is learned."""

from pathlib import Path

import pytest

from examples.grokking.complexity import Settings
from examples.grokking.config import preset
from examples.grokking.folder import RunFolder, read_lines
from examples.grokking.recording import train_run

pytestmark = pytest.mark.usefixtures("computing_with_one_thread")


@pytest.mark.slow
def test_complexity_rises_and_falls(tmp_path: Path) -> None:
    shorter = {"prime": 31, "train_fraction": 0.5, "d_model": 64, "d_mlp": 256, "learning_rate": 6e-3, "batch_size": 128}
    folder = RunFolder(tmp_path / "run", preset("quick", epochs=86, **shorter), Settings(method="quantize", budget=20))
    train_run(folder)
    lines = read_lines(folder.metrics)
    peak = max(lines, key=lambda line: line["bits@1"])
    assert lines[0]["bits@1"] < 0.05 * peak["bits@1"]
    assert peak["train_accuracy"] > 0.5
    assert peak["test_accuracy"] < 0.5 * peak["train_accuracy"]
    assert lines[-1]["epoch"] > 2 * peak["epoch"]
    assert lines[-1]["test_accuracy"] > 0.85
    assert lines[-1]["bits@1"] < 0.8 * peak["bits@1"]
