"""Minimisation under a constraint by Optuna, version 4 or 5. Optuna is imported when it is needed, because that takes a second."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from nncomplexity.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

_VIOLATION = "violation"


def load_optuna() -> ModuleType:
    """The module Optuna. Raises InputError if it isn't installed."""
    with warnings.catch_warnings():
        # Optuna imports tqdm for progress bars that we don't show. In a notebook without ipywidgets tqdm would warn.
        warnings.filterwarnings("ignore", message="IProgress not found")
        try:
            import optuna
        except ImportError as error:
            raise InputError("method: bayes needs the package optuna, which is not installed; pip install 'optuna>=4.2'") from error
    return optuna


class ConstrainedStudy:
    """Trials of points with a value and a violation. A violation of at most 0 satisfies the constraint.

    Version 5 of Optuna takes violations as arguments. Version 4 calls a function of a trial for them, which reads them from the trial's
    attributes.

    Args:
        space: the distribution of each parameter.
        seed: decides every proposal.
    """

    def __init__(self, space: Mapping[str, "BaseDistribution"], seed: int) -> None:
        self._optuna = load_optuna()
        self._told = hasattr(self._optuna.trial.Trial, "set_constraint")
        asked: dict[str, Any] = {} if self._told else {"constraints_func": _violation_of}
        with quiet():
            samplers = self._optuna.samplers
            self._gaussian = samplers.GPSampler(seed=seed, n_startup_trials=1, **asked)
            self._parzen = samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True, **asked)
            self._study = self._optuna.create_study(sampler=self._gaussian)
        self._space = dict(space)

    def add(self, params: Mapping[str, float | None], value: float, violation: float) -> None:
        """Add a point that was measured elsewhere."""
        stated: dict[str, Any] = (
            {"constraints": {_VIOLATION: violation}}
            if self._told
            else {"user_attrs": {_VIOLATION: violation}, "system_attrs": {"constraints": (violation,)}}
        )
        self._study.add_trial(self._optuna.create_trial(params=dict(params), distributions=self._space, value=value, **stated))

    def ask(self, *, gaussian: bool) -> "Trial":
        """The next point, proposed by a Gaussian process or by a tree-structured Parzen estimator."""
        self._study.sampler = self._gaussian if gaussian else self._parzen
        with quiet():
            trial: Trial = self._study.ask(self._space)
        return trial

    def tell(self, trial: "Trial", value: float, violation: float) -> None:
        """Report what was measured at a point that `ask` gave."""
        if self._told:
            trial.set_constraint(_VIOLATION, violation)
        else:
            trial.set_user_attr(_VIOLATION, violation)
        self._study.tell(trial, value)


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which Optuna logs nothing, and doesn't warn of experimental parts, which in version 4 are most of those used here.

    Without it, Optuna logs each study. Its Gaussian process also logs that greenlet is missing, or that no point satisfies the constraint.
    """
    optuna = load_optuna()
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _violation_of(trial: Any) -> tuple[float]:
    return (trial.user_attrs[_VIOLATION],)
