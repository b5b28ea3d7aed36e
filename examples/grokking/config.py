"""The configuration of a training run. The same configuration gives the same weights."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from examples.grokking.data import OPERATIONS, Examples, split
from examples.grokking.model import ATTENTIONS, Decoder
from nncomplexity.errors import InputError

REGULARIZERS = ("none", "weight-decay", "full")
_STREAMS = ("split", "initialization", "order", "noise")


@dataclass(frozen=True)
class Config:
    """One training run; `preset` gives sound values.

    `weight_decay`, `noise` (the standard deviation of the weight noise, DeMoss et al. 2025, Eq. 10) and `beta` (the weight of the
    spectral entropy in the loss, Eq. 16) are 0 where the regularizer leaves them out.

    Raises:
        InputError: for a value outside its range.
    """

    operation: str
    regularizer: str
    prime: int
    train_fraction: float
    layers: int
    noise: float
    weight_decay: float
    beta: float
    epochs: int
    d_model: int = 128
    heads: int = 4
    d_mlp: int = 512
    attention: str = "proper"
    learning_rate: float = 1e-3
    batch_size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {"operation": OPERATIONS, "regularizer": REGULARIZERS, "attention": ATTENTIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.prime < 3 or any(self.prime % divisor == 0 for divisor in range(2, int(self.prime**0.5) + 1)):
            raise InputError(f"prime: expected a prime of at least 3, got {self.prime}")
        if not 0 < self.train_fraction < 1:
            raise InputError(f"train_fraction: expected a number between 0 and 1, got {self.train_fraction:g}")
        for name in ("layers", "epochs", "d_model", "heads", "d_mlp", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("noise", "weight_decay", "beta", "learning_rate", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name}: expected a finite number of at least 0, got {getattr(self, name):g}")

    @property
    def vocabulary(self) -> int:
        return self.prime + 2

    def examples(self) -> tuple[Examples, Examples]:
        """The training equations and the test equations."""
        return split(self.operation, self.prime, self.train_fraction, self.stream("split"))

    def decoder(self) -> Decoder:
        """The network with its initial weights."""
        return Decoder(
            self.vocabulary,
            self.stream("initialization"),
            layers=self.layers,
            d_model=self.d_model,
            heads=self.heads,
            d_mlp=self.d_mlp,
            attention=self.attention,
        )

    def stream(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """One of the run's independent random streams: split, initialization, order or noise."""
        seed = self.seed * len(_STREAMS) + _STREAMS.index(name)
        return torch.Generator(device).manual_seed(seed)

    @classmethod
    def of_run(cls, folder: str | Path) -> Self:
        """The configuration that a run's folder holds.

        Raises:
            InputError: if the folder holds none, or one that is damaged.
        """
        return cls(**read_config(folder)["training"])


@dataclass(frozen=True)
class Preset:
    """The values of Table 1 that a preset replaces, and the budget of its measurements (None: the method's default)."""

    training: dict[str, Any]
    budget: int | None = None


PRESETS = {
    "quick": Preset({"prime": 47, "train_fraction": 0.4, "epochs": 300}, budget=240),
    "paper": Preset({"prime": 113, "epochs": 1000}),
}


def preset(name: str, operation: str = "addition", regularizer: str = "full", **changes: Any) -> Config:
    """Table 1 of DeMoss et al. 2025 (`paper`), or a run of the same kind that takes minutes (`quick`).

    `changes` replace single settings, and win over both the preset and the regularizer.

    >>> preset("paper", "division").layers, preset("paper", "division").noise
    (2, 0.001)
    >>> preset("paper", regularizer="weight-decay").beta
    0.0

    Raises:
        InputError: for a name or a value that is not allowed.
    """
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    if operation not in OPERATIONS:
        raise InputError(f"operation: expected one of {', '.join(OPERATIONS)}, got {operation!r}")
    task = OPERATIONS[operation]
    settings = {
        "train_fraction": task.train_fraction,
        "layers": task.layers,
        "noise": task.noise if regularizer == "full" else 0.0,
        "weight_decay": 0.0 if regularizer == "none" else 1.0,
        "beta": 0.1 if regularizer == "full" else 0.0,
    }
    return Config(operation=operation, regularizer=regularizer, **(settings | PRESETS[name].training | changes))


def read_config(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The parts of a run's config.json: `training`, the fields of `Config`, and `measuring`.

    Raises:
        InputError: if there is none, or if it is damaged.
    """
    path = Path(folder) / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {field.name for field in fields(Config)} != set(content["training"]) or not isinstance(content["measuring"], dict):
            raise ValueError("its settings are not those of this version")
    except OSError as error:
        raise InputError(f"{folder}: no run of train.py is here ({path.name} cannot be read: {error.strerror})") from None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a configuration that train.py wrote ({error})") from None
    return {"training": content["training"], "measuring": content["measuring"]}
