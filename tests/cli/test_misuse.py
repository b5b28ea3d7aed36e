"""Wrong arguments for the public functions: each one gives one clear line, before any work is done."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nncomplexity import InputError, estimate, load
from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.dynamics import Follow, Tracker, track
from nncomplexity.linalg import Sketch, dequantize, quantize, spectral_entropy, svd, waves
from nncomplexity.measure import rate_distortion
from nncomplexity.search import Bayes, Quantize, Tight
from nncomplexity.search.allocate import Allocate
from nncomplexity.training import spectral_entropy_penalty, weight_noise
from tests.cases import mean_square as loss


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "got NoneType; pass the module itself"),
        ("net.safetensors", r"got str; load the file first, by nncomplexity.checkpoint.load_checkpoint\(path\).tensors"),
        (Path("net.safetensors"), r"got PosixPath; load the file first"),
        (nn.Linear(2, 2).parameters(), r"got generator; pass the module itself, or its state_dict\(\)"),
        ([torch.ones(2)], "got list; pass the module itself"),
        (nn.Linear, r"got the class Linear; pass an object of it, as Linear\(...\) makes one"),
        (SimpleNamespace(tensors={"w": torch.ones(2)}), "got SimpleNamespace; pass its .tensors"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_pass(given: Any, words: str) -> None:
    expected = "model: expected a module or a mapping of names to tensors, "
    with pytest.raises(InputError, match=expected + words):
        estimate(given, lambda _: 0.0, 0.1)
    with pytest.raises(InputError, match=expected + words):
        rate_distortion(given, lambda _: 0.0)
    assert expected in Tracker(lambda _: 0.0, 0.1)(1, given)["error"]


@pytest.mark.parametrize(
    "address", ["https://huggingface.co/gpt2/resolve/main/model.safetensors", "s3://bucket/net.pt", "HF://gpt2"]
)
def test_an_address_in_the_network_is_no_file(address: str) -> None:
    words = rf"expected the name of a file, got an address, '{address}'; download it, and name the file$"
    with pytest.raises(InputError, match=words):
        load_checkpoint(address)
    with pytest.raises(InputError, match=words):
        track([address], loss, 0.1)


@pytest.mark.parametrize("name", ["", 3, None, b"net", "a\0b"])
def test_what_is_no_name_of_a_file(name: Any) -> None:
    weights = {"w": torch.ones(3)}
    report = estimate(weights, lambda w: w["w"].sum(), 0)
    calls = [report.save, load, load_checkpoint, lambda path: save_safetensors(path, weights)]
    for call in calls:
        with pytest.raises(InputError, match=r"path: expected the name of a file, a text or a Path, got .*; name one$"):
            call(name)
    with pytest.raises(InputError, match="checkpoints: expected the name of a file"):
        track([name], lambda _: 0.0, 0.1)
    if name is not None:
        with pytest.raises(InputError, match="out: expected the name of a file"):
            Tracker(lambda _: 0.0, 0.1, out=name)


def test_checkpoints_that_are_neither_a_path_nor_several(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoints: expected the name of a file, a text or a Path, got 3"):
        track(3, lambda _: 0.0, 0.1)
    save_safetensors(tmp_path / "net.safetensors", {"w": torch.ones(3)})
    with pytest.raises(InputError, match="out: expected the name of a file, a text or a Path, got 3"):
        track(tmp_path / "net.safetensors", lambda _: 0.0, 0.1, out=3)


def test_a_key_that_is_no_text() -> None:
    with pytest.raises(InputError, match="key: expected a dotted path, such as 'model_state_dict', got 3; leave it out"):
        load_checkpoint("net.pt", 3)


EVERYWHERE = [
    ({"eps": "0.1"}, "eps: expected a finite number of at least 0, in the loss's unit, got '0.1'"),
    ({"eps": b"0.1"}, "eps: expected a finite number of at least 0, in the loss's unit, got b'0.1'"),
    ({"eps": [10**400]}, "eps: expected a finite number of at least 0, in the loss's unit, got inf"),
    ({"eps": [np.complex64(1)]}, r"eps: expected a finite number of at least 0, in the loss's unit, got \(1\+0j\)"),
    ({"budget": math.inf}, "budget: expected a number of loss evaluations, at least 1, got inf"),
    ({"budget": "9"}, "budget: expected a number of loss evaluations, at least 1, got '9'"),
    ({"budget": np.int64(0)}, "budget: expected a number of loss evaluations, at least 1, got 0"),
    ({"method": None}, r"method: expected 'tight', 'allocate', 'bayes', 'quantize' or a method object such as Tight\(\), got None"),
    ({"method": 3}, r"method: expected 'tight', .* got 3"),
    ({"method": 3, "budget": 9}, r"method: expected 'tight', .* got 3"),
    ({"method": Tight}, r"method: expected 'tight', .* got the class Tight; call it"),
    ({"method": ["tight"]}, r"method: expected 'tight', .* got \['tight'\]"),
    ({"include": 3}, "include: expected glob patterns of tensor names, such as 'encoder.*', got 3"),
    ({"exclude": [3]}, "exclude: expected glob patterns of tensor names, such as 'encoder.*', got 3"),
    ({"codec": 3}, "codec: expected one of entropy, .* got 3"),
    ({"codec": ""}, "codec: expected one of entropy, .* got ''"),
    ({"seed": -1}, "seed: expected a whole number from 0 to 4294967295, got -1"),
    ({"seed": 1.5}, "seed: expected a whole number from 0 to 4294967295, got 1.5"),
    ({"seed": None}, "seed: expected a whole number from 0 to 4294967295, got None"),
    ({"seed": "a", "method": "bayes"}, "seed: expected a whole number from 0 to 4294967295, got 'a'"),
    ({"seed": 2**32}, "seed: expected a whole number from 0 to 4294967295, got 4294967296"),
    ({"seed": 10**5000}, "seed: expected a whole number from 0 to 4294967295, got int too long to print"),
    ({"seed": True}, "seed: expected a whole number from 0 to 4294967295, got True"),
]
TIME = [
    ({"time_limit": 10**400}, "time_limit: expected a finite number of seconds above 0, got 1000"),
    ({"time_limit": np.float32("nan")}, "time_limit: expected a finite number of seconds above 0, got nan"),
    ({"time_limit": "5"}, "time_limit: expected a finite number of seconds above 0, got '5'"),
]
PROGRESS = ({"progress": 3}, "progress: expected a function, or None, got 3")
BOUNDS = [
    ({"n": 0}, r"n: expected a whole number of examples from 1 to 2\*\*53, got 0"),
    ({"n": 10, "delta": 2}, "delta: expected a failure probability strictly between 0 and 1"),
]


@pytest.mark.parametrize(("arguments", "words"), [*EVERYWHERE, *TIME, PROGRESS])
def test_arguments_of_estimate(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate({"w": torch.ones(3)}, loss, **{"eps": 0.1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(*EVERYWHERE, *TIME, PROGRESS, *BOUNDS),
        ({"eps": 0.1}, "eps: expected a sequence of numbers, got 0.1; estimate takes a single one"),
        ({"risk": 3, "n": 10}, "risk: expected a function, or None, got 3"),
        ({"n": 10, "chance": 2}, "chance: expected a risk above 0 and at most 1"),
    ],
)
def test_arguments_of_rate_distortion(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        rate_distortion({"w": torch.ones(3)}, loss, **{"eps": [0.1], **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(*EVERYWHERE, PROGRESS, *BOUNDS),
        ({"metrics": ["mytask:error"]}, "metrics: expected functions by name, such as {'test_error': test_error}, got"),
        ({"device": None}, "device: expected a device of this machine"),
        ({"on_row": 3}, "on_row: expected a function, or None, got 3"),
        ({"on_note": 3}, "on_note: expected a function, or None, got 3"),
        ({"follow": True}, r"follow: expected a Follow, such as Follow\(poll=10\), got True"),
        ({"seeds": 0}, "seeds: expected a whole number of at least 1, got 0"),
        (
            {"seed": 2**32 - 1, "seeds": 2},
            "seeds: expected at most 1 from seed 4294967295 on, got 2",
        ),
        ({"executor": 3}, r"executor: expected a concurrent\.futures\.Executor, got 3"),
        ({"risk_fn": 3, "n": 10}, "risk_fn: expected a function or MODULE:FUNCTION, got int"),
    ],
)
def test_arguments_of_track_and_tracker(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    save_safetensors(tmp_path / "net.safetensors", {"w": torch.ones(3)})
    with pytest.raises(InputError, match=words):
        track(tmp_path, loss, **{"eps": 0.1, **arguments})
    if not {"progress", "on_row", "on_note", "follow", "executor", "seeds"} & set(arguments):
        with pytest.raises(InputError, match=words):
            Tracker(loss, **{"eps": 0.1, **arguments})


def test_numbers_of_numpy_are_as_good_as_any() -> None:
    weights = {"w": torch.linspace(-1, 1, 20)}
    report, same = (estimate(weights, loss, eps, budget=10, seed=seed) for eps, seed in ((0.1, 3), (np.float64(0.1), np.int64(3))))
    assert report.file.content == same.file.content
    for method in ("tight", "quantize"):
        ours, theirs = (
            estimate(weights, loss, 0.1, method=method, budget=budget, time_limit=limit)
            for budget, limit in ((8, 60.0), (np.int64(8), np.float32(60)))
        )
        assert ours.file.content == theirs.file.content
        assert (theirs.time_limit, type(theirs.time_limit)) == (60, float)
    assert [type(made(budget=np.int64(8)).budget) for made in (Tight, Allocate, Bayes, Quantize)] == [int] * 4
    row = Tracker(loss, np.float16(0.5), method=Tight(budget=np.int64(8)))(np.int64(3), weights)
    assert (row["step"], json.loads(json.dumps(row))["settings"]["budget"]) == (3, 8)
    assert [row["status"] for row in [Tracker(loss, 0.1, device=torch.device("cpu"), budget=10)(1, weights)]] == ["measured"]


@pytest.mark.parametrize("limit", ["5", None, -1, float("nan"), True])
def test_a_limit_that_is_no_number_of_bytes(tmp_path: Path, limit: Any) -> None:
    estimate({"w": torch.ones(3)}, lambda w: w["w"].sum(), 0).save(tmp_path / "net.coarse")
    with pytest.raises(InputError, match=rf"^limit: expected a number of bytes, at least 0, got {limit!r}"):
        load(tmp_path / "net.coarse", limit=limit)
    assert load(tmp_path / "net.coarse", limit=np.int64(1 << 20))["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["poll", "idle_timeout", "until"])
@pytest.mark.parametrize("value", ["x", True, float("nan"), -1, [1]])
def test_what_is_no_time_to_wait(name: str, value: Any) -> None:
    with pytest.raises(
        InputError, match=rf"^{name}: expected a number of (seconds above|at least) 0, got {re.escape(repr(value))}"
    ):
        Follow(**{name: value})
    with pytest.raises(InputError, match="poll: expected a number of seconds above 0, got 1000"):
        Follow(poll=10**400)
    assert type(getattr(Follow(**{name: np.float32(2)}), name)) is float


def test_steps_and_runs_that_no_row_can_hold() -> None:
    for step, came in (
        (10**400, "1000"),
        (10**5000, "int too long to print"),
        ("1", "'1'"),
        (None, "None"),
        (np.float32("nan"), "nan"),
        (-1, "-1"),
    ):
        with pytest.raises(InputError, match=f"step: expected the training step, a finite number of at least 0, got {came}"):
            Tracker(loss, 0.1)(step, {"w": torch.ones(3)})
    with pytest.raises(InputError, match="key: expected no such argument, because a Tracker is called with the network itself"):
        Tracker(loss, 0.1, key="model")
    with pytest.raises(InputError, match="run: expected the name of the run, a text, or None, got <object object"):
        Tracker(loss, 0.1, run=object())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spectral_entropy_penalty(3), "matrices: expected tensors, a module or a mapping of names to tensors, got 3"),
        (lambda: spectral_entropy_penalty("x"), "matrices: expected tensors, a module or a mapping of names to tensors, got 'x'"),
        (lambda: spectral_entropy_penalty({"w": [1.0]}), r"matrices: expected tensors, .* got \[1.0\]"),
        (lambda: spectral_entropy_penalty([torch.eye(2)], beta="x"), "beta: expected a finite number, got 'x'"),
        (lambda: spectral_entropy_penalty([torch.eye(2)], beta=None), "beta: expected a finite number, got None"),
        (lambda: spectral_entropy_penalty([torch.eye(2)], beta=torch.ones(2)), "beta: expected a finite number, got tensor"),
        (
            lambda: spectral_entropy_penalty(nn.Linear(3, 3), select="weight"),
            "select: expected a function of a name, .* got 'weight'",
        ),
        (lambda: weight_noise("x", 0.1).__enter__(), "module: expected an nn.Module, whose parameters get the noise, got str"),
        (lambda: weight_noise(nn.Linear(1, 1), "x").__enter__(), "std: expected a finite number of at least 0, got 'x'"),
        (lambda: quantize([1.0, 2.0], 0.1), "x: expected a floating-point tensor, got list; use torch.tensor"),
        (
            lambda: dequantize([1, 2], 0.1, torch.float32),
            "symbols: expected an integer tensor, as quantize.symbols gives, got list",
        ),
        (
            lambda: spectral_entropy([[1.0]]),
            r"x: expected a floating-point matrix \(m, n\) with entries, got list; use torch.tensor",
        ),
        (lambda: svd("x"), r"x: expected a floating-point matrix \(m, n\) with entries, got str; use torch.tensor"),
    ],
)
def test_arguments_of_the_arithmetic_and_the_regularizers(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


@pytest.fixture
def meta_by_default() -> Iterator[None]:
    """A default device, as a notebook may have set it. On "meta", a tensor that is made without a device is noticed."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def test_the_default_device_is_the_users_affair(meta_by_default: None, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(9, 7, generator=generator, device="cpu"), "none": torch.zeros(0, 3, device="cpu")}
    for method in ("quantize", "bayes"):
        report = estimate(weights, loss, 0.1, method=method, budget=16)
        report.save(tmp_path / "net.coarse")
        assert {name: tensor.device.type for name, tensor in load(tmp_path / "net.coarse").items()} == dict.fromkeys(weights, "cpu")
    wide = {"w": torch.randn(80, 64, generator=generator, device="cpu")}  # large enough for descents
    assert estimate(wide, loss, 0.1, budget=60, seed=1).within
    assert waves.__wrapped__(6, 4).abs().sum() > 0
    assert Sketch(weights["w"].double()).leading(2)[1].tolist() == pytest.approx(svd(weights["w"]).S[:2].tolist())
    spectral_entropy_penalty([weights["w"].requires_grad_()]).backward()


def test_a_module_whose_state_dict_is_its_own_is_refused() -> None:
    class Plain(nn.Linear):
        def state_dict(self) -> Any:  # type: ignore[override]
            return {"w": self.weight}

    class Nested(nn.Linear):
        def state_dict(self, *_: Any, **__: Any) -> Any:
            return {"layers": {"w": self.weight}}

    with pytest.raises(InputError, match=r"model: its state_dict can't be asked for live tensors .*; pass a mapping of tensors"):
        estimate(Plain(2, 2), lambda net: net.weight.sum(), 0.1)
    with pytest.raises(InputError, match="model: its state_dict holds dictionaries, where tensors were expected"):
        estimate(Nested(2, 2), lambda net: net.weight.sum(), 0.1)


def test_numbers_near_the_end_of_float64() -> None:
    weights = {"w": torch.randn(20, 20, generator=torch.Generator().manual_seed(0)).double() * 1e300}
    report = estimate(weights, lambda w: (w["w"] * 1e-300).square().mean(), 0.1, budget=30)
    assert report.within
