"""The settings of the calling program: our arithmetic doesn't depend on them, and the user's functions find them unchanged."""

import contextlib
import functools
import math
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nncomplexity import Langevin, Tracker, estimate, load, local_learning_coefficient, rate_distortion
from nncomplexity.bounds import smoothed_bound
from nncomplexity.checkpoint import load_checkpoint, save_safetensors
from nncomplexity.linalg import Fit, Switches, balanced, effective_rank, fitted, quantize, svd, users_switches, usual_switches
from nncomplexity.network import Distortion, loss_from
from nncomplexity.training import spectral_entropy_penalty, weight_noise


@contextlib.contextmanager
def between(on: Callable[[], object], off: Callable[[], object]) -> Iterator[None]:
    on()
    try:
        yield
    finally:
        off()


def default_dtype(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return between(lambda: torch.set_default_dtype(dtype), lambda: torch.set_default_dtype(torch.float32))


@contextlib.contextmanager
def warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def a_talkative_optuna() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.DEBUG)
    yield
    assert optuna.logging.get_verbosity() == optuna.logging.DEBUG
    optuna.logging.set_verbosity(before)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: between(lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)),
    "device context": lambda: torch.device("meta"),
    "np.seterr": lambda: np.errstate(all="raise"),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: between(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "denormals": lambda: between(lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)),
    "matmul": lambda: between(
        lambda: torch.set_float32_matmul_precision("medium"), lambda: torch.set_float32_matmul_precision("highest")
    ),
    "print options": lambda: np.printoptions(precision=1, suppress=True),
    "warnings": warnings_as_errors,
    "optuna": a_talkative_optuna,
}


@functools.cache
def data() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Inputs, labels, and the weights of a perceptron that has learned them."""
    with usual_switches(), torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(96, 6, generator=generator)
        y = x[:, :3].argmax(1)
        shapes = {"a": (12, 6), "b": (12,), "c": (3, 12)}
        weights = {name: (0.4 * torch.randn(shape, generator=generator)).requires_grad_() for name, shape in shapes.items()}
        optimizer = torch.optim.Adam(weights.values(), 2e-2)
        for _ in range(120):
            optimizer.zero_grad()
            cross_entropy(logits(weights, x), y).backward()
            optimizer.step()
        return x, y, {name: weight.detach() for name, weight in weights.items()}


def logits(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    # In float64, which neither autocast nor the precision of matrix products changes.
    hidden = torch.relu(x.double() @ weights["a"].double().T + weights["b"].double())
    return hidden @ weights["c"].double().T


def loss(weights: dict[str, Tensor]) -> Tensor:
    x, y, _ = data()
    return cross_entropy(logits(weights, x), y)


def error(weights: dict[str, Tensor]) -> float:
    x, y, _ = data()
    return float((logits(weights, x).argmax(1) != y).double().mean())


def sizes(eps: float, **options: Any) -> list[object]:
    reports = estimate(data()[2], loss, [eps], seed=1, **options)
    return [
        (report.bits, report.coarse_loss, {name: tensor.tolist() for name, tensor in report.coarse_weights().items()})
        for report in reports
    ]


def no_gradient() -> object:
    return estimate(data()[2], error, 0.05, budget=8).bits


def curve() -> object:
    found = rate_distortion(data()[2], loss, [1, 0.3, 0.1, 0.03], budget=10, n=96, risk=error)
    return [report.bits for report in found.reports], [one and one.value for one in found.bounds], found.fits, found.hull


def parts() -> object:
    x, y, weights = data()
    mean = loss_from(lambda network, x, y: cross_entropy(logits(network, x), y, reduction="none"), (x, y), batch=40)
    return estimate(weights, mean, 0.1, budget=12).bits


def denormals() -> object:
    bits = torch.arange(1, 13, dtype=torch.int32, device="cpu")  # of the smallest float32 numbers
    reports = estimate({**data()[2], "tiny": bits.view(torch.float32)}, loss, [0.1, 0], budget=8, method="quantize")
    whole = reports[1].coarse_weights()["tiny"].view(torch.int32)
    assert whole.tolist() == bits.tolist()
    return [report.bits for report in reports]


def files() -> object:
    _, _, weights = data()
    save_safetensors("whole.safetensors", weights)
    torch.save({"model": weights, "step": 3}, "whole.pt")
    estimate(weights, loss, 0.1, budget=8, method="quantize").save("whole.coarse")
    checkpoints = [load_checkpoint(name) for name in ("whole.safetensors", "whole.pt")]
    found = [load("whole.coarse"), *(one.tensors for one in checkpoints)]
    return [{name: (tensor.dtype, tensor.device, tensor.tolist()) for name, tensor in one.items()} for one in found]


def row() -> object:
    tracker = Tracker(loss, 0.1, method="quantize", budget=8, metrics={"error_rate": error}, risk_fn=error, n=96)
    return {key: value for key, value in tracker(1, data()[2]).items() if key not in ("seconds", "cpu_seconds")}


def modules() -> object:
    """A module that can be copied, and one that can't, each with a metric."""
    x, y, weights = data()
    found = []
    for lock in (None, threading.Lock()):
        network = torch.nn.Linear(6, 3, dtype=torch.float32, device="cpu")
        network.lock = lock
        with torch.no_grad():
            network.weight.copy_(weights["a"][:3])
            network.bias.copy_(weights["b"][:3])

        def module_loss(network: torch.nn.Module) -> Tensor:
            return cross_entropy(x.double() @ network.weight.double().T + network.bias.double(), y)

        tracker = Tracker(module_loss, 0.1, method="quantize", budget=8, metrics={"again": module_loss})
        row = tracker(1, network)
        assert row["again"] == row["loss"]
        found.append({key: value for key, value in row.items() if key not in ("seconds", "cpu_seconds")})
    return found


def learning_coefficient() -> object:
    sampler = Langevin(chains=1, draws=3, burn_in=3)
    return local_learning_coefficient(data()[2], loss, 96, sampler=sampler).value


def arithmetic() -> object:
    matrix = data()[2]["a"]
    network = torch.nn.Linear(6, 12, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        network.weight.copy_(matrix)
    penalty = spectral_entropy_penalty(network)
    with weight_noise(network, 0.1, generator=torch.Generator().manual_seed(0)):
        noisy = network.weight.detach().clone()
    left, _ = balanced(svd(matrix), 2)
    probabilities = np.array([1.0, 0.7, 1e-300, 0.0])
    return (
        (penalty.dtype, penalty.item(), noisy.tolist(), effective_rank(matrix), quantize(matrix, 0.1).tolist()),
        (left.dtype, left.tolist(), smoothed_bound(500, probabilities=probabilities, n_classes=3).value),
        (Fit("power", 40.0, 1.0, 1.0)([1e-9]), fitted([(1e-160, 1.0), (1e-80, 2e9), (1.0, 4e9)])),
    )


WORK: dict[str, Callable[[], object]] = {
    "tight": lambda: sizes(0.03, budget=12),
    "bayes": lambda: sizes(0.3, budget=14, method="bayes"),
    "quantize": lambda: sizes(0.1, budget=8, method="quantize"),
    "no gradient": no_gradient,
    "curve": curve,
    "parts": parts,
    "denormals": denormals,
    "files": files,
    "row": row,
    "modules": modules,
    "learning coefficient": learning_coefficient,
    "arithmetic": arithmetic,
}


@functools.cache
def usual(work: str) -> object:
    with usual_switches(), torch.inference_mode(False), torch.enable_grad():
        return WORK[work]()


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_result_depends_on_the_program_around(setting: str, workplace: Path) -> None:
    expected = {work: usual(work) for work in WORK}
    with SETTINGS[setting]():
        before = Switches.now()
        found = {work: do() for work, do in WORK.items()}
        assert Switches.now() == before
    for work in WORK:
        assert found[work] == expected[work], work


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_loss_runs_under_the_settings_of_its_own_program(setting: str) -> None:
    seen: list[Switches] = []

    def watching(weights: dict[str, Tensor]) -> Tensor:
        seen.append(Switches.now())
        return loss(weights)

    data()
    with SETTINGS[setting]():
        before = Switches.now()
        for method in ("tight", "bayes"):
            estimate(data()[2], watching, 0.1, budget=13, method=method)
    assert set(seen) == {before}


def test_a_module_is_loaded_and_called_under_the_settings_of_its_own_program() -> None:
    class Scaled(torch.nn.Module):
        """Makes a tensor in the default dtype, as modules do."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((4,), 0.5, dtype=torch.float64))

        def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
            assert torch.get_default_dtype() == torch.float64
            super()._load_from_state_dict(state, prefix, *rest)

        def forward(self) -> Tensor:
            return self.weight * torch.ones(4)

    with default_dtype(torch.float64):
        dtypes = []
        estimate(Scaled(), lambda module: dtypes.append(module().dtype) or module().sum() ** 2, 0.1, budget=8)
    assert set(dtypes) == {torch.float64}


def test_a_gradient_that_is_nan_counts_as_zero_under_anomaly_detection_too() -> None:
    weights = {"w": torch.zeros(3), "v": torch.ones(3)}
    found = []
    for anomaly in (False, True):
        with (
            torch.autograd.set_detect_anomaly(anomaly),
            Distortion(weights, lambda w: w["w"].norm() * 0 + (w["v"] ** 2).sum()) as one,
        ):
            found.append(one.gradient(weights))
    assert found[0] is not None
    assert found[1] is not None
    assert [found[0][1][name].tolist() for name in "wv"] == [found[1][1][name].tolist() for name in "wv"] == [[0.0] * 3, [2.0] * 3]


def test_switches_set_for_single_backends_are_left_alone() -> None:
    before = getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", None)
    if before is None:
        pytest.skip("this PyTorch has one switch for all backends")
    try:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        with pytest.raises(RuntimeError):
            torch.get_float32_matmul_precision()
        with usual_switches():
            assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        assert Switches.now().unusual == ()
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_they_go_to_other_processes() -> None:
    with default_dtype(torch.float64), np.errstate(under="raise"):
        sent = pickle.dumps(Switches.now())
    assert Switches.now().unusual == ()
    with pickle.loads(sent).on():
        assert torch.get_default_dtype() == torch.float64
        with pytest.raises(FloatingPointError):
            np.exp(np.float64(-800.0))
    assert torch.get_default_dtype() == torch.float32
    assert math.isclose(float(np.exp(np.float64(-800.0))), 0.0)


def test_ours_within_the_users_within_ours() -> None:
    with default_dtype(torch.float16):
        with usual_switches(), users_switches(), usual_switches():
            assert torch.get_default_dtype() == torch.float32
            with users_switches():
                assert torch.get_default_dtype() == torch.float16
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float16
