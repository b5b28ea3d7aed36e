"""The methods by name."""

from nncomplexity.errors import InputError
from nncomplexity.search.allocate import Allocate
from nncomplexity.search.bayes import Bayes
from nncomplexity.search.contract import Method
from nncomplexity.search.quantize import Quantize
from nncomplexity.search.tight import Tight

_METHODS: dict[str, type[Tight] | type[Allocate] | type[Bayes] | type[Quantize]] = {
    "tight": Tight,
    "allocate": Allocate,
    "bayes": Bayes,
    "quantize": Quantize,
}


def method_named(name: str, budget: float | None = None) -> Method:
    """The method of that name with its default settings, or with another budget of evaluations for each ε.

    Raises:
        InputError: there is no such method, or the budget is not usable.
    """
    if name not in _METHODS:
        raise InputError(f"method: expected one of {', '.join(_METHODS)}, got {name!r}")
    return _METHODS[name]() if budget is None else _METHODS[name](budget=budget)
