"""Searches on the CPU and on the simulated accelerator: `python tests/elsewhere_cases.py` prints whether their files are the same."""

import json
from collections.abc import Callable, Mapping

import torch
from elsewhere import DEVICE, Elsewhere, crossed
from torch import Tensor, nn

from nncomplexity import estimate
from nncomplexity.linalg import sizes
from nncomplexity.measure import Report, rate_distortion
from nncomplexity.network import Distortion

EXAMPLES = torch.randn(256, 40, generator=torch.Generator().manual_seed(5))


def weights(seed: int = 0) -> dict[str, Tensor]:
    """A two-layer network with rows that are waves, a tensor that no gradient reaches, a tie, and a tensor of integers."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.outer(torch.arange(40.0), torch.tensor([1.0, 3.0, 7.0])) * (2 * torch.pi / 40)
    first = torch.randn(48, 6, generator=generator) @ torch.cat([waves.cos(), waves.sin()], 1).T / 6
    second = torch.randn(10, 48, generator=generator) / 7
    tensors = {"first": first, "bias": torch.randn(40, generator=generator) / 10, "second": second, "tied": second}
    return tensors | {"silent": torch.linspace(0, 1, 40, dtype=torch.float64), "steps": torch.arange(3)}


def logits(w: Mapping[str, Tensor]) -> Tensor:
    examples = EXAMPLES.to(w["first"].device)
    shifted = examples + w["bias"] + w["silent"].detach().float() * 0.1
    return 3 * torch.relu(shifted @ w["first"].T) @ w["tied"].T


LABELS = logits(weights()).argmax(1)


def loss(w: Mapping[str, Tensor]) -> Tensor:
    scores = logits(w)
    return nn.functional.cross_entropy(scores, LABELS.to(scores.device))


def without_gradient(w: Mapping[str, Tensor]) -> float:
    return loss(w).detach().item()


def files(reports: Report | tuple[Report, ...]) -> list[bytes]:
    return [report.file.content for report in (reports if isinstance(reports, tuple) else (reports,))]


def compared(search: Callable[[dict[str, Tensor], dict[str, Tensor]], list[bytes]]) -> dict[str, object]:
    """Whether a search makes the same files on both devices, and the bytes that were copied from the device, by dtype."""
    here = search(weights(), weights(1))
    crossed.clear()
    with Elsewhere():
        there = search({name: tensor.to(DEVICE) for name, tensor in moved(weights()).items()}, weights(1))
    return {"same": here == there, "crossed": dict(crossed), "sizes": [len(file) for file in here]}


def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the device. Tied tensors stay tied."""
    on = {id(tensor): tensor.to(DEVICE) for tensor in tensors.values()}
    return {name: on[id(tensor)] for name, tensor in tensors.items()}


def as_large(w: dict[str, Tensor]) -> list[bytes]:
    """A search that treats the small network and its matrices as large ones."""
    before = sizes.NETWORK, sizes.MATRIX
    sizes.NETWORK = sizes.MATRIX = 1000
    try:
        return files(estimate(w, loss, 0.3, budget=30))
    finally:
        sizes.NETWORK, sizes.MATRIX = before


CASES: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], list[bytes]]] = {
    "tight": lambda w, _: files(estimate(w, loss, 0.3, budget=70)),
    "tight, without a gradient": lambda w, _: files(estimate(w, without_gradient, 0.3, budget=30)),
    "tight, as a large network": lambda w, _: as_large(w),
    "tight, another seed, relative to a base": lambda w, base: files(estimate(w, loss, 0.3, budget=30, seed=3, relative_to=base)),
    "bayes": lambda w, _: files(estimate(w, loss, 0.3, method="bayes", budget=12)),
    "quantize": lambda w, _: files(estimate(w, loss, 0.3, method="quantize", budget=12)),
    "curve": lambda w, _: files(rate_distortion(w, loss, [1, 0.3, 0.1], budget=30).reports),
}


if __name__ == "__main__":
    # The inputs of layers can't be recorded on the simulated device, so they are recorded on neither device.
    Distortion.moments = lambda _: {}  # type: ignore[method-assign]
    print(json.dumps({name: compared(search) for name, search in CASES.items()}))
