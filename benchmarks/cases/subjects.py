"""Networks by name, each with its loss or function distortion: those that `benchmarks.cases.trained` trains, and the shipped ones."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from benchmarks.cases.networks import ROOT
from benchmarks.cases.trained import NAMES, trained
from examples.digits import task as digits
from examples.grokking.data import equations
from examples.grokking.task import SHIPPED, task_for
from nncomplexity import Divergence
from nncomplexity.checkpoint import load_checkpoint

GROKKING = ("grokking/memorised", "grokking/grokked")
SHIPPED_NAMES = ("digits/mlp", "digits/convnet", *GROKKING)
"""The checkpoints that come with the examples. Settings of the search were compared on the grokking pair."""


class Subject(NamedTuple):
    """A network under a distortion, and ε."""

    network: str
    distortion: str
    eps: float


def given(network: str, distortion: str) -> tuple[nn.Module | Mapping[str, Tensor], Any]:
    """The network of this name, and what `estimate` takes as its loss.

    Args:
        network: one of `trained.NAMES` or of `SHIPPED_NAMES`.
        distortion: "loss", or "kl" for the divergence of the outputs on all inputs that the example knows; no input is held out.

    Raises:
        ValueError: for another name.
    """
    if distortion not in ("loss", "kl"):
        raise ValueError(f"distortion: expected loss or kl, got {distortion}")
    if network in NAMES:
        subject = trained(network)
        return subject.network, subject.loss if distortion == "loss" else subject.divergence
    if network not in SHIPPED_NAMES:
        raise ValueError(f"network: expected one of {', '.join((*NAMES, *SHIPPED_NAMES))}, got {network}")
    example, name = network.split("/")
    weights = load_checkpoint(ROOT / "examples" / example / "checkpoints" / f"{name}.safetensors").tensors
    return weights, _shipped_loss(example) if distortion == "loss" else _shipped_divergence(example)


def _shipped_loss(example: str) -> Any:
    return digits.loss if example == "digits" else task_for(SHIPPED).mean_loss


@cache
def _shipped_divergence(example: str) -> Divergence:
    if example == "digits":
        return Divergence(digits.logits, digits.split("train")[0], probe=0)
    return Divergence(task_for(SHIPPED).logits, equations(SHIPPED.operation, SHIPPED.prime).tokens, probe=0)
