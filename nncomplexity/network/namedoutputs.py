"""A divergence from the names on a command line, such as `--outputs mytask:logits --inputs mytask:inputs`.

The names can be sent to another process, which makes the divergence again.
"""

import functools
import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch

from nncomplexity.errors import InputError
from nncomplexity.network.calling import fixed_random_state
from nncomplexity.network.distortion import preserved_random_state, set_random_state
from nncomplexity.network.divergence import Divergence
from nncomplexity.network.divergence.function import draws
from nncomplexity.network.taskmodule import find_function
from nncomplexity.network.usercode import called
from nncomplexity.words import number_of_text


@dataclass(frozen=True)
class NamedDivergence:
    """The names of the functions, as the user typed them.

    Attributes:
        outputs: `--outputs`, MODULE:FUNCTION; the function returns a network's outputs on inputs.
        inputs: `--inputs`, MODULE:FUNCTION. A function without arguments returns inputs for a `Divergence`, or a pair of
            inputs and labels. A function of a number and a generator draws inputs.
        kind: `--divergence`: kl, bernoulli, mse, or MODULE:FUNCTION.
        probe: `--probe`: MODULE:FUNCTION of held-out inputs, or the share of the inputs to hold out; None is a fifth.
    """

    outputs: str
    inputs: str
    kind: str = "kl"
    probe: str | None = None

    @classmethod
    def of(cls, outputs: str | None, inputs: str | None, kind: str | None, probe: str | None) -> "NamedDivergence | None":
        """The divergence of the options, or None if none was given. Raises InputError if they don't make a divergence."""
        if outputs is None and inputs is None:
            if given := next((name for name, value in (("--divergence", kind), ("--probe", probe)) if value is not None), None):
                raise InputError(f"{given}: it needs --outputs and --inputs; add them, or leave it out")
            return None
        if outputs is None or inputs is None:
            missing, there = ("--outputs", "--inputs") if outputs is None else ("--inputs", "--outputs")
            raise InputError(f"{missing}: expected MODULE:FUNCTION with {there}, got none; add it")
        return cls(outputs, inputs, kind or "kl", probe)

    def make(self) -> Divergence:
        """The divergence, the same object at each call. Raises InputError if a name can't be used."""
        # A worker may change its folder, and the same name is then another function. So the cache's key includes the function's id. The
        # cached divergence keeps the function alive, so no other object can get this id.
        return _made(self, id(find_function(self.outputs, "--outputs")))

    def described(self) -> dict[str, Any]:
        """Its keys in reports and rows."""
        return {"outputs": self.outputs, "inputs": self.inputs, "divergence": self.kind, "probe": self.probe}


@functools.lru_cache(maxsize=4)
def _made(named: NamedDivergence, _: int) -> Divergence:
    kind: Any = find_function(named.kind, "--divergence") if ":" in named.kind else named.kind
    probe: Any = 0.2 if named.probe is None else data_named(named.probe, "--probe") if ":" in named.probe else _share(named.probe)
    outputs, inputs = find_function(named.outputs, "--outputs"), data_named(named.inputs, "--inputs")
    # Reading a DataLoader runs the user's code, too. A function with arguments is taken to draw inputs, which may not be what it is for.
    name = named.inputs + (", called with a number and a generator to draw inputs," if draws(inputs) else "")
    made: Divergence = called("--inputs", lambda: Divergence(outputs, inputs, kind, probe=probe), name=name)
    return made


def data_named(name: str, option: str) -> Any:
    """The data that a user's function returns. A function with arguments, which draws inputs, is returned itself.

    Raises:
        InputError: the name leads to no function, or the function raises.
    """
    function = find_function(name, option)
    if takes_arguments(function):
        return function
    with preserved_random_state(), torch.no_grad():
        set_random_state(fixed_random_state())
        return called(option, function, name=name)


def takes_arguments(function: Any) -> bool:
    """Whether a function can't be called without arguments."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


def _share(text: str) -> float:
    number, percent = number_of_text(text.strip().removesuffix("%")), text.strip().endswith("%")
    if math.isnan(number):
        raise InputError(f"--probe: expected MODULE:FUNCTION of held-out inputs, or a share such as 0.2 or 20%, got {text!r}")
    return number / 100 if percent else number
