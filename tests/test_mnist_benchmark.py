"""The benchmark on MNIST: its networks, the process that measures a file again, and the table and picture of the results."""

import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.cases.mnist import Images, logits, networks
from benchmarks.cases.networks import Case
from benchmarks.measuring import mnist, mnist_check
from benchmarks.measuring.mnist_bound import SHAPES, Searching, Training, bounded
from benchmarks.reporting import mnist as reporting
from nncomplexity import estimate
from nncomplexity.file import read_file

SHAPES_300 = {"0.weight": (12, 784), "0.bias": (12,), "2.weight": (8, 12), "2.bias": (8,), "4.weight": (10, 8), "4.bias": (10,)}
SHAPES_5 = {
    "conv1.weight": (2, 1, 5, 5),
    "conv1.bias": (2,),
    "conv2.weight": (3, 2, 5, 5),
    "conv2.bias": (3,),
    "fc1.weight": (8, 48),
    "fc1.bias": (8,),
    "fc2.weight": (10, 8),
    "fc2.bias": (10,),
}


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Images of ten classes, sorted by class. Each class has a bright band at its own place."""
    generator, path = np.random.default_rng(0), tmp_path / "mnist.npz"
    content = {}
    for part, count in (("train", 300), ("test", 100)):
        labels = np.sort(np.arange(count) % 10)
        images = generator.integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 4] += 150
        content |= {f"{part}_x": images, f"{part}_y": labels.astype(np.int64)}
    np.savez(path, **content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(drawn(SHAPES_300), tmp_path / "lenet300.safetensors")
    save_file(drawn(SHAPES_5), tmp_path / "lenet5.safetensors")
    return tmp_path


def test_images_are_taken_in_one_order_that_is_not_that_of_the_classes(archive: Path) -> None:
    train = Images.read(archive, "train")
    assert torch.equal(train.pixels, Images.read(archive, "train").pixels)
    assert train.pixels.min() >= 0
    assert train.pixels.max() <= 1
    assert len(set(train.first(100).labels.tolist())) == 10
    assert len(train.first(None).labels) == 300


@pytest.mark.parametrize("shapes", [SHAPES_300, SHAPES_5, SHAPES], ids=["lenet300", "lenet5", "small"])
def test_the_second_implementation_computes_the_same_logits(shapes: dict[str, tuple[int, ...]]) -> None:
    weights, x = drawn(shapes), torch.rand(30, 784, generator=torch.Generator().manual_seed(1))
    again = mnist_check._logits({name: tensor.numpy() for name, tensor in weights.items()}, x.numpy())
    np.testing.assert_allclose(again, logits(weights, x).numpy(), rtol=1e-4, atol=1e-4)


def test_the_convnet_computes_the_same_with_and_without_a_gradient() -> None:
    weights, x = drawn(SHAPES_5), torch.rand(30, 784, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        without = logits(weights, x)
    assert torch.equal(without, logits(weights, x))


def test_a_folder_without_networks_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected lenet300\.safetensors or lenet5\.safetensors"):
        networks(tmp_path / "none", Images.read(archive, "train"))


# Another process starts, which imports PyTorch: some seconds.
def test_a_row_is_measured_again_by_another_process(
    archive: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "estimate", partial(estimate, method="quantize"))
    files, output = folder / "files", folder / "out.json"
    plan = Namespace(
        distortions=["loss"], eps=[0.02], seeds=[0], examples=200, budget=8.0, output=output, files=files, methods=["tight"]
    )
    measuring = mnist.Measuring.read(archive, folder, 200, 8.0)
    cases = networks(folder, measuring.searched, ("lenet300",))
    record = mnist.run(measuring, cases, plan)
    row = next(row for row in record.rows if row["method"] == "tight")
    assert row["verified"]
    assert row["checked"]["holds"]
    assert row["checked"]["bytes"] == row["bytes"] > 0
    assert row["checked"]["distortion"] == pytest.approx(row["distortion_found"], abs=1e-5)
    assert row["bytes"] * 8 < 32 * cases[0].skeleton.parameters
    arguments = ["mnist_check", "--data", str(archive), "--networks", str(folder), "--record", str(output), "--files", str(files)]
    arguments += ["--bounds", str(folder / "none.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        assert mnist_check.main() == 0
        content = json.loads(output.read_text(encoding="utf-8"))
        content["rows"][0]["test_error"] += 0.01
        output.write_text(json.dumps(content), encoding="utf-8")
        assert mnist_check.main() == 1
    assert "test_error" in capsys.readouterr().out


def test_searches_on_other_images_or_with_other_budgets_have_files_of_their_own() -> None:
    plans = [Namespace(examples=examples, budget=budget) for examples in (None, 600) for budget in (None, 600.0)]
    names = [mnist.file_name("lenet5", "kl", 0.01, 2, plan) for plan in plans]
    assert len(set(names)) == len(plans)
    assert names[0] == "lenet5-kl-0.01-2.coarse"


def test_the_divergence_of_a_file_is_measured_again(archive: Path, folder: Path) -> None:
    measuring = mnist.Measuring.read(archive, folder)
    case = networks(folder, measuring.searched, ("lenet5",))[0]
    report = estimate(case.weights, measuring.searched.divergence("lenet5"), 0.2, method="quantize")
    report.save(folder / "a.coarse")
    claim = mnist_check.Claim(case.name, "kl", 0.2)
    found = mnist_check.measured(folder / "a.coarse", claim, case.weights, measuring.train, measuring.test)
    assert found["distortion"] == pytest.approx(report.distortion, abs=1e-5)
    assert found["holds"]
    assert found["train_error"] == pytest.approx(measuring.train.error(report.coarse_weights()))
    too_fine = mnist_check.Claim(case.name, "kl", report.distortion / 2)
    assert not mnist_check.measured(folder / "a.coarse", too_fine, case.weights, measuring.train, measuring.test)["holds"]


def test_a_file_that_another_process_cannot_measure_is_an_error(
    archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = mnist.Measuring.read(archive, folder)
    case = networks(folder, measuring.searched, ("lenet300",))[0]
    row = {"bytes": 10, "test_error": 0.5}
    for code, output, said in ((2, "cut off", "another process says: cut off"), (0, json.dumps(row | {"bytes": 9}), "finds")):
        done = CompletedProcess([], code, output, "")
        monkeypatch.setattr(mnist.subprocess, "run", lambda *_, done=done, **__: done)
        with pytest.raises(ValueError, match=said):
            measuring._checked(case, "loss", 0.1, folder / "a.coarse", row)


def test_the_small_network_is_trained_and_bounded(archive: Path, tmp_path: Path) -> None:
    train, test = Images.read(archive, "train"), Images.read(archive, "test")
    weights = Training(epochs=4, batch=30).run(train)
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == SHAPES
    assert sum(weight.numel() for weight in weights.values()) == 5994
    assert train.error(weights) < 0.5  # a guess is wrong for nine of ten
    row = bounded(Case("mnist/small", "", weights, train.loss("small")), (train, test), Searching((1.0,), budget=20), 0, tmp_path)
    assert max(row["train_error"], row["holdout_bound"]) <= 1
    assert row["train_error"] <= row["bound"] <= 1
    assert row["original_test_error"] == test.error(weights) <= row["holdout_bound"]
    again = mnist_check.measured_bound(tmp_path / row["file"], train, test, 0.05)
    assert not mnist_check.differences(row, again)
    assert again["bound"] == pytest.approx(row["bound"], abs=1e-6)
    assert mnist_check.differences({**row, "bound": row["bound"] - 0.01}, again)


def made_up() -> dict[str, Any]:
    rows = [
        {
            "case": "mnist/lenet5",
            "method": "tight",
            "distortion": "loss",
            "eps": eps,
            "seed": seed,
            "bytes": size,
            "test_error": error,
            "train_error": error / 2,
            "bound": 0.1,
            "cpu_seconds": 100.0,
            "examples": None,
        }
        for eps, seed, size, error in [(0.1, 0, 500, 0.03), (0.05, 0, 900, 0.009), (0.05, 1, 1000, 0.0094), (0.01, 0, 2000, 0.0065)]
    ]
    return {"cases": {"mnist/lenet5": {"test_error": 0.006}}, "rows": rows}


def test_the_first_table_has_the_smallest_file_that_is_no_worse_than_the_published_one() -> None:
    bounds = {
        "rows": [
            {"case": "mnist/small", "bound": 0.12, "seed": 0, "examples": None},
            {"case": "mnist/small", "bound": 0.09, "seed": 0, "examples": None},
            {"case": "mnist/lenet5", "bound": 0.13, "seed": 0, "examples": None},
        ]
    }
    lines = reporting.front(made_up(), bounds).splitlines()
    assert any("0.96% | 950 ± 71 at 0.92% ± 0.03 (2 seeds) | 1,520 |" in line for line in lines)
    assert any("0.69% | 2,000 at 0.65% (one seed) | 3,030 |" in line for line in lines)
    assert any(line.startswith("| LeNet-300-100") and "| not measured | 8,560 |" in line for line in lines)
    few = made_up() | {"rows": made_up()["rows"][:1]}
    assert "0.69% | not reached: 500 at 3.00% (one seed) | 3,030 |" in reporting.front(few, None)
    assert "| 9.0%, convnet of 5,994 parameters (one seed) | 11.6% |" in lines[-1]
    told = reporting.all_points(made_up()).splitlines()
    assert len(told) == 2 + 3
    assert told[2].startswith("| LeNet-5-Caffe | tight, loss | 0.1 | all | default | 1 | 500 at 3.00% | 1.50% | 10.0% | 100 s |")


def test_the_picture_is_the_same_each_time_and_has_the_published_points(tmp_path: Path) -> None:
    for name in ("one", "two"):
        reporting.draw(made_up(), tmp_path / f"{name}.svg", made_by="nncomplexity 0.1.0")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert all(
        word in text for word in ("LeNet-5-Caffe", "MIRACLE, exchange format", "tight, loss", "measured by nncomplexity 0.1.0")
    )


def test_every_recorded_file_is_kept_is_small_and_has_its_bytes() -> None:
    rows = [row for row in json.loads(mnist_check.RECORD.read_text(encoding="utf-8"))["rows"] if "file" in row]
    assert rows
    for row in rows:
        file = mnist_check.RECORD.with_suffix("") / row["file"]
        assert read_file(file).bits == 8 * row["bytes"]
        assert file.stat().st_size < 32_000
        assert row["verified"]
        assert row["checked"]["holds"]
        assert row["checked"]["test_error"] == row["test_error"]
