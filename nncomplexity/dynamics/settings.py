"""The settings by which checkpoints are measured. Every row of a results file has them, and they must be the same in all rows."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict, Unpack, cast

import torch

from nncomplexity.bounds import LossUnit, bound, check_loss_unit
from nncomplexity.codecs import codec_named
from nncomplexity.dynamics.functions import UserDivergence, UserFunction, user_divergence, user_function
from nncomplexity.errors import InputError
from nncomplexity.measure import Langevin, Options, SeveralEps, check_examples, checked_eps, checked_method, langevin_dynamics
from nncomplexity.network import (
    Base,
    Divergence,
    ModuleOrTensors,
    NamedDivergence,
    Patterns,
    base_of,
    find_device,
    folder_of,
    patterns_of,
    unwrapped,
)
from nncomplexity.search import Method, Progress, TimeLimit, method_named
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
    "prequential_bits",
    "evaluations",
    "seconds",
    "cpu_seconds",
    "warnings",
)
FAITHFUL = ("agreement", "divergence", "right_to_wrong", "wrong_to_right")
"""The keys of a file's faithfulness, on the inputs of the search and, with `held_out_…`, on held-out inputs."""
_AT_EPS = (
    *("bits", "coarse_loss", "distortion", "within", "origin", "warnings", "paper_bytes", "bound", "vacuous", "mdl_bits"),
    *("layers", "shared_bits", "critical_bits", *(f"{part}{key}" for part in ("", "held_out_") for key in FAITHFUL)),
)
RESERVED = frozenset((*_WHOLE, *_NETWORK, *_AT_EPS))
"""Keys of rows, which can't be names of metrics."""
BUDGET = 400
"""The default number of loss evaluations for each checkpoint and ε. A run has many checkpoints, and their sizes can be compared only if each
gets the same effort. So the default is a fixed budget, and not a search until it converges."""
_METRIC = re.compile(r"[A-Za-z_][\w.-]*")
_MAY_DIFFER = ("version", "torch")
"""Settings that may differ between the rows of a file."""


@dataclass(frozen=True)
class TrackSettings:
    """Everything that a row depends on, except its checkpoint and its seed. `settings_of` makes and checks the settings."""

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
    critical_bits: bool = False
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    key: str | None = None
    device: str = "cpu"
    faithfulness: UserDivergence | None = None
    relative_to: Base | None = None
    time_limit: float | None = None

    @property
    def functions(self) -> list[UserFunction]:
        """All functions of the user."""
        given = (self.loss_fn, self.model, self.risk_fn, self.faithfulness, *(function for _, function in self.metrics))
        return [function for function in given if function is not None]

    @property
    def folder(self) -> str | None:
        """The folder in which the functions are called; None is the current folder. It is known only after their modules are imported."""
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
            "relative_to": self.relative_to,
            "time_limit": self.time_limit,
        }

    def described(self) -> dict[str, Any]:
        """The object `settings` in a row. A method object with other settings than the defaults is described in full."""
        # A user's own method may have the name of one of ours. Its full description distinguishes the two.
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
            **({"critical_bits": True} if self.critical_bits else {}),
            "include": None if self.include is None else list(self.include),
            "exclude": None if self.exclude is None else list(self.exclude),
            "key": self.key,
            "device": self.device,
            **({} if self.relative_to is None else {"relative_to": self.relative_to.sha256}),
            **({} if self.time_limit is None else {"time_limit": self.time_limit}),
            "version": __version__,
            "torch": torch.__version__,
        }

    def difference(self, row: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
        """The first setting in which a row of a file differs from these, with both values; None if there is none."""
        there = {**(row.get("settings") or {})}
        here = json.loads(json.dumps(self.described()))  # in the form of a row, in which tuples are lists and keys are texts
        names = [name_of(eps) for eps in self.eps]
        if set(names_in(row)) != set(names):
            absolute = row.get("eps") if row.get("eps_relative") is None else names_in(row)
            return "eps", absolute, [name_of(eps) if isinstance(eps, Relative) else eps for eps in self.eps]
        for name in dict.fromkeys([*here, *there]):
            if name not in _MAY_DIFFER and there.get(name) != here.get(name):
                return name, there.get(name), here.get(name)
        return None

    def other_versions(self, row: Mapping[str, Any]) -> str | None:
        """The versions of the programs that measured a row, as text, if they differ from the present ones."""
        there, here = row.get("settings") or {}, self.described()
        different = [f"{name} {there.get(name)}" for name in _MAY_DIFFER if there.get(name) != here[name]]
        return ", ".join(different) or None


class RowOptions(TypedDict, total=False):
    """The options of `track` and `Tracker` on how rows are measured. An option that is left out has the default of `TrackSettings`."""

    method: str | Method
    """As in `estimate`; the default is "tight"."""
    codec: str | None
    """As in `estimate`."""
    budget: float | None
    """Loss evaluations for each checkpoint and ε; the default is 400."""
    model: Given | None
    """A function that builds the module, which the other functions then get instead of a dict of tensors."""
    risk_fn: Given | None
    """The error rate on the n training examples, in [0, 1]. With it, rows have a bound."""
    n: int | None
    """Number of training examples, for the bound and for the description length."""
    delta: float
    """Failure probability of the bound."""
    chance: float | None
    """The risk of a guess. A bound that is not better than this is vacuous."""
    loss_unit: LossUnit | None
    """The unit of the loss; by default the loss decides it (`nncomplexity.bounds.is_code_length`)."""
    metrics: Mapping[str, Given] | None
    """Further functions by name. They are evaluated on the original and on the decoded weights."""
    llc: Langevin | None
    """The settings of the sampler for the local learning coefficient, which is then estimated for the original weights; needs `n`."""
    critical_bits: bool
    """Whether rows have the critical bits of the original weights at each ε (`nncomplexity.measure.critical_bits`)."""
    include: Patterns
    """As in `estimate`."""
    exclude: Patterns
    """As in `estimate`."""
    key: str | None
    """The state dict in a pickled checkpoint, as a dotted path."""
    device: str
    """The device of the weights that the functions get."""
    faithfulness: Divergence | NamedDivergence | None
    """A `Divergence` that measures how faithful the files are, if the search uses a loss."""
    relative_to: ModuleOrTensors | Base | None
    """A base, whose bits are free, as in `estimate`. Its tensors are copied at once, so it may be the network that is about to train."""
    time_limit: float | None
    """Seconds for the searches of each row, as in `estimate`. Rows are then not reproducible."""


def settings_of(loss_fn: Given, eps: Eps | SeveralEps, **options: Unpack[RowOptions]) -> TrackSettings:
    """The settings, checked as far as possible without a checkpoint.

    Raises:
        InputError: an option isn't usable.
        TypeError: there is no such option.
    """
    unknown = sorted(set(options) - RowOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}")
    codec, n, llc = options.get("codec"), options.get("n"), options.get("llc")
    if codec is not None:
        codec_named(codec)
    if options.get("risk_fn") is not None and n is None:
        raise InputError("n: expected the number of training examples of risk_fn, got none; give n")
    if llc is not None:
        _check_sampler(llc, n)
    delta, chance = options.get("delta", TrackSettings.delta), options.get("chance")
    bound(0.0, risk=0.0, n=1 if n is None else n, delta=delta, chance=chance)  # only checks the arguments
    device = str(options.get("device", TrackSettings.device))
    find_device(device)
    return TrackSettings(
        eps=_eps_of_rows(eps),
        loss_fn=user_function("loss_fn", loss_fn),
        method=_method_of_rows(options.get("method", "tight"), options.get("budget")),
        codec=codec,
        model=_function("model", options.get("model")),
        risk_fn=_function("risk_fn", options.get("risk_fn")),
        n=n,
        delta=delta,
        chance=None if chance is None else float(chance),
        loss_unit=check_loss_unit(options.get("loss_unit")),
        llc=llc,
        critical_bits=bool(options.get("critical_bits", False)),
        metrics=_metrics(options.get("metrics")),
        include=_patterns("include", options.get("include")),
        exclude=_patterns("exclude", options.get("exclude")),
        key=options.get("key"),
        device=device,
        faithfulness=None if (given := options.get("faithfulness")) is None else user_divergence(given),
        relative_to=None if (base := options.get("relative_to")) is None else _kept_base(base),
        time_limit=None if (limit := options.get("time_limit")) is None else TimeLimit(limit).seconds,
    )


def _kept_base(given: ModuleOrTensors | Base) -> Base:
    """The base with copies of its tensors, because the tensors of a network change while it trains."""
    if isinstance(given, Base):
        return given
    base = base_of(unwrapped(given), "relative_to")
    return replace(base, tensors={name: tensor.clone() for name, tensor in base.tensors.items()})


def _check_sampler(llc: object, n: int | None) -> None:
    if not isinstance(llc, Langevin):
        raise InputError(f"llc: expected an nncomplexity.Langevin, got {llc!r}")
    check_examples(n)
    # Only checks that the package of the sampler is installed.
    langevin_dynamics()


def _method_of_rows(method: str | Method, budget: float | None) -> Method:
    return checked_method(method, BUDGET if budget is None and isinstance(method, str) else budget)


def _function(name: str, given: Given | None) -> UserFunction | None:
    return None if given is None else user_function(name, given)


def _patterns(name: str, given: Patterns) -> tuple[str, ...] | None:
    return tuple(patterns_of(name, given) or ()) or None


def _metrics(metrics: object) -> tuple[tuple[str, UserFunction], ...]:
    if metrics is None:
        return ()
    if not isinstance(metrics, Mapping):
        raise InputError(f"metrics: expected functions by name, such as {{'test_error': test_error}}, got {metrics!r}")
    for name in metrics:
        _check_metric(name)
    return tuple((name, user_function(f"metric {name}", function)) for name, function in metrics.items())


def _eps_of_rows(eps: Eps | SeveralEps) -> tuple[Eps, ...]:
    """The ε of the rows, without repeats. Two ε must differ in their first six digits, because the keys of a row have six digits."""
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
