"""How checkpoints are measured. Every row of a results file has these `settings`, and they must be the same in all rows."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from nncomplexity.bounds import LossUnit, bound, check_loss_unit
from nncomplexity.codecs import codec_named
from nncomplexity.dynamics.functions import UserDivergence, UserFunction, user_divergence, user_function
from nncomplexity.errors import InputError
from nncomplexity.measure import Langevin, Options, SeveralEps, check_examples, checked_eps, checked_method, langevin_dynamics
from nncomplexity.network import Divergence, NamedDivergence, Patterns, find_device, folder_of, patterns_of
from nncomplexity.search import Method, Progress, method_named
from nncomplexity.version import __version__
from nncomplexity.words import Eps, Relative, name_of, names_in

Row = dict[str, Any]
"""A line of a results.jsonl. docs/results.md describes its keys."""
Given = str | Callable[..., Any] | NamedDivergence | UserFunction
"""A function, its name as MODULE:FUNCTION, or a divergence instead of a loss."""

_WHOLE = (
    *("schema", "kind", "status", "error", "run", "checkpoint", "sha256", "step", "step_from", "notes"),
    *("seed", "eps", "eps_relative", "settings"),
    "trainer",
)
_NETWORK = (
    "parameters",
    "raw_bits",
    "loss",
    "zero_loss",
    "risk",
    "constant_risk",
    "constant_bound",
    "l2_norm",
    "effective_rank",
    "bzip2_bits",
    "llc",
    "llc_error",
    "llc_drift",
    "llc_evaluations",
    "evaluations",
    "seconds",
    "cpu_seconds",
    "warnings",
)
FAITHFUL = ("agreement", "divergence", "right_to_wrong", "wrong_to_right")
"""The keys of a file's faithfulness, on the inputs of the search and, with `held_out_…`, on held-out inputs."""
_AT_EPS = (
    *("bits", "coarse_loss", "distortion", "within", "origin", "warnings", "paper_bytes", "bound", "vacuous", "mdl_bits"),
    *("layers", "shared_bits", *(f"{part}{key}" for part in ("", "held_out_") for key in FAITHFUL)),
)
RESERVED = frozenset((*_WHOLE, *_NETWORK, *_AT_EPS))
"""Keys of rows, which can't be names of metrics."""
BUDGET = 62
"""The default number of loss evaluations for each checkpoint and ε, which is that of Algorithm 1. There are many checkpoints, and a
long search trains the network further, until networks that memorised look like those that generalised."""
_METRIC = re.compile(r"[A-Za-z_][\w.-]*")
_MAY_DIFFER = ("version", "torch")
"""Settings that may differ between the rows of a file."""


@dataclass(frozen=True)
class Settings:
    """Everything that a row depends on, besides its checkpoint and its seed. `settings_of` makes and checks the settings."""

    eps: tuple[Eps, ...]
    loss_fn: UserFunction
    method: Method
    codec: str | None = None
    model: UserFunction | None = None
    risk_fn: UserFunction | None = None
    n: int | None = None
    delta: float = 0.05
    chance: float | None = None
    loss_unit: LossUnit | None = None
    metrics: tuple[tuple[str, UserFunction], ...] = ()
    llc: Langevin | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    key: str | None = None
    device: str = "cpu"
    faithfulness: UserDivergence | None = None

    @property
    def functions(self) -> list[UserFunction]:
        """All functions of the user."""
        given = (self.loss_fn, self.model, self.risk_fn, self.faithfulness, *(function for _, function in self.metrics))
        return [function for function in given if function is not None]

    @property
    def folder(self) -> str | None:
        """The folder in which they are called; None is the current folder. It is known when their modules are imported."""
        return folder_of(*(one.name for one in self.functions if one.function is None))

    def options(self, seed: int, progress: Progress | None = None) -> Options:
        """The arguments of `estimate` for each row."""
        return {
            "method": self.method,
            "codec": self.codec,
            "seed": seed,
            "include": self.include,
            "exclude": self.exclude,
            "progress": progress,
            "faithfulness": None if self.faithfulness is None else cast(Divergence, self.faithfulness.get()),
        }

    def described(self) -> dict[str, Any]:
        """The object `settings` in a row. A method object with other settings than the defaults is described in full."""
        usual = type(self.method).__module__.startswith("nncomplexity.") and self.method == method_named(
            self.method.name, self.method.budget
        )
        return {
            "method": self.method.name,
            **({} if usual else {"method_settings": repr(self.method)}),
            "codec": codec_named(self.codec or self.method.codec).name,
            "budget": self.method.budget,
            "loss_fn": self.loss_fn.name,
            **(self.loss_fn.described() if isinstance(self.loss_fn, UserDivergence) else {}),
            **(self.faithfulness.described() if self.faithfulness else {}),
            "model": self.model and self.model.name,
            "risk_fn": self.risk_fn and self.risk_fn.name,
            "n": self.n,
            "delta": self.delta,
            "chance": self.chance,
            "loss_unit": self.loss_unit,
            "metrics": {name: function.name for name, function in self.metrics},
            "llc": self.llc and asdict(self.llc),
            "include": None if self.include is None else list(self.include),
            "exclude": None if self.exclude is None else list(self.exclude),
            "key": self.key,
            "device": self.device,
            "version": __version__,
            "torch": torch.__version__,
        }

    def difference(self, row: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
        """The first setting in which a row of a file differs from these, with both values; None if there is none."""
        there, here = {**(row.get("settings") or {})}, json.loads(json.dumps(self.described()))
        names = [name_of(eps) for eps in self.eps]
        if set(names_in(row)) != set(names):
            absolute = row.get("eps") if row.get("eps_relative") is None else names_in(row)
            return "eps", absolute, [name_of(eps) if isinstance(eps, Relative) else eps for eps in self.eps]
        for name in dict.fromkeys([*here, *there]):
            if name not in _MAY_DIFFER and there.get(name) != here.get(name):
                return name, there.get(name), here.get(name)
        return None

    def other_versions(self, row: Mapping[str, Any]) -> str | None:
        """The versions of a row's programs, as text, if they differ from these."""
        there, here = row.get("settings") or {}, self.described()
        different = [f"{name} {there.get(name)}" for name in _MAY_DIFFER if there.get(name) != here[name]]
        return ", ".join(different) or None


def settings_of(
    loss_fn: Given,
    eps: Eps | SeveralEps,
    *,
    method: str | Method = "tight",
    codec: str | None = None,
    budget: float | None = None,
    model: Given | None = None,
    risk_fn: Given | None = None,
    n: int | None = None,
    delta: float = 0.05,
    chance: float | None = None,
    loss_unit: LossUnit | None = None,
    metrics: Mapping[str, Given] | None = None,
    llc: Langevin | None = None,
    include: Patterns = None,
    exclude: Patterns = None,
    key: str | None = None,
    device: str = "cpu",
    faithfulness: Divergence | NamedDivergence | None = None,
) -> Settings:
    """The settings, checked as far as that goes without a checkpoint. `estimate` and `nncomplexity measure` explain each of them.

    Raises InputError for the first that isn't usable.
    """
    if codec is not None:
        codec_named(codec)
    if risk_fn is not None and n is None:
        raise InputError("n: expected the number of training examples of risk_fn, got none; give n, or --n")
    if llc is not None:
        if not isinstance(llc, Langevin):
            raise InputError(f"llc: expected an nncomplexity.Langevin, got {llc!r}")
        check_examples(n)
        langevin_dynamics()
    bound(0.0, risk=0.0, n=1 if n is None else n, delta=delta, chance=chance)
    find_device(device)
    if metrics is not None and not isinstance(metrics, Mapping):
        raise InputError(f"metrics: expected functions by name, such as {{'test_error': test_error}}, got {metrics!r}")
    for name in metrics or {}:
        _check_metric(name)
    return Settings(
        eps=_eps_of_rows(eps),
        loss_fn=user_function("loss_fn", loss_fn),
        method=checked_method(method, BUDGET if budget is None and isinstance(method, str) else budget),
        codec=codec,
        model=None if model is None else user_function("model", model),
        risk_fn=None if risk_fn is None else user_function("risk_fn", risk_fn),
        n=n,
        delta=delta,
        chance=None if chance is None else float(chance),
        loss_unit=check_loss_unit(loss_unit),
        llc=llc,
        metrics=tuple((name, user_function(f"metric {name}", function)) for name, function in (metrics or {}).items()),
        include=tuple(patterns_of("include", include) or ()) or None,
        exclude=tuple(patterns_of("exclude", exclude) or ()) or None,
        key=key,
        device=str(device),
        faithfulness=None if faithfulness is None else user_divergence(faithfulness),
    )


def _eps_of_rows(eps: Eps | SeveralEps) -> tuple[Eps, ...]:
    """The keys of a row name its ε to six digits."""
    names: dict[str, Eps] = {}
    for value in checked_eps(eps):
        if names.setdefault(name_of(value), value) != value:
            raise InputError(
                f"eps: expected values that differ in six digits, got {names[name_of(value)]!r} and {value!r}; leave one out"
            )
    return tuple(names.values())


def _check_metric(name: object) -> None:
    if not isinstance(name, str) or not _METRIC.fullmatch(name):
        raise InputError(f"metric: expected a name of letters, digits, '_', '-' and '.', got {name!r}; use such as test_error")
    if name in RESERVED:
        raise InputError(f"metric: {name!r} is a key that every row has; choose another name, such as test_{name}")
