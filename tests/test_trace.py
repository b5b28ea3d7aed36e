"""The trace of a search that docs/search.md draws."""

import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from nncomplexity.search import Tight

SCRIPT = Path(__file__).parents[1] / "docs" / "images" / "trace.py"


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("trace_of_a_search", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_trace_has_every_step_and_is_drawn(trace: ModuleType, tmp_path: Path) -> None:
    w = {"w": torch.randn(12, 10, generator=torch.Generator().manual_seed(3))}

    def loss(given: dict[str, Tensor]) -> Tensor:
        return (given["w"] - w["w"]).square().mean()

    found = trace.trace_of(w, loss, 0.05, Tight(first=8, most=64))
    assert found.starts[0] == 0
    assert found.cycles == sorted(found.cycles)
    assert found.cycles[-1] == found.steps >= 64
    assert [step for step, _ in found.bits] == [step for step, _ in found.distortions] == list(range(8, found.steps + 1, 8))
    assert all(bits > 0 for _, bits in found.bits)
    assert [bits for _, bits in found.best] == sorted((bits for _, bits in found.best), reverse=True)
    assert any(distortion <= 1 for _, distortion in found.candidates)
    trace.draw(asdict(found), "measured by a test", tmp_path / "trace.svg")
    assert "measured by a test" in (tmp_path / "trace.svg").read_text(encoding="utf-8")
