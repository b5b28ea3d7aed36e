"""Global switches of the process. The package runs with their usual values, and a user's function runs with the user's values.

The user's program may set another default dtype or device, NumPy errors on underflow, anomaly detection for each gradient, or autocast.
The result of a search and the decoding of a file must not depend on these. But a loss needs the settings of the user's program. So a
search runs within `usual_switches`, and calls the user's functions within `users_switches`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


def _has_autocast(device: str) -> bool:
    try:
        torch.is_autocast_enabled(device)
    except RuntimeError:  # this version of PyTorch has no autocast for this kind of device
        return False
    return True


_AUTOCAST = tuple(device for device in ("cpu", "cuda", "mps", "xpu") if _has_autocast(device))
_TINY = sys.float_info.min


@dataclass(frozen=True)
class _Switch:
    """One global switch.

    Attributes:
        usual: its usual value.
        get: returns its present value.
        put: a context manager that sets it to a value.
    """

    usual: Any
    get: Callable[[], Any]
    put: Callable[[Any], AbstractContextManager[Any]]


def _settable(usual: Any, get: Callable[[], Any], put: Callable[[Any], object]) -> _Switch:
    """A switch with a function that sets it."""

    @contextmanager
    def at(value: Any) -> Iterator[None]:
        before = get()
        put(value)
        try:
            yield
        finally:
            put(before)

    return _Switch(usual, get, at)


def _set_autocast(types: tuple[str, ...]) -> None:
    torch.clear_autocast_cache()
    for name in _AUTOCAST:
        torch.set_autocast_enabled(name, name in types)


def _matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set for single backends, which this function can't express
        return "highest"


_SWITCHES: dict[str, _Switch] = {
    "default dtype": _settable(torch.float32, torch.get_default_dtype, torch.set_default_dtype),
    # The user may set it by torch.set_default_device or by `with torch.device(...)`. The innermost one is in effect, so a tensor shows it.
    "default device": _Switch(torch.device("cpu"), lambda: torch.empty(0).device, lambda device: device),
    "anomaly detection": _settable(
        (False, True),
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.autograd.set_detect_anomaly(*value),
    ),
    # Some operations have no deterministic form and would raise. Our results are deterministic without this switch.
    "deterministic algorithms": _settable(
        (False, False),
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    ),
    "autocast": _settable((), lambda: tuple(name for name in _AUTOCAST if torch.is_autocast_enabled(name)), _set_autocast),
    "matmul precision": _settable("highest", _matmul_precision, torch.set_float32_matmul_precision),
    # A weight may be a denormal number, which must not become 0. PyTorch can't report this switch, so a multiplication shows it.
    "flush denormals": _settable(False, lambda: _TINY * 0.5 == 0.0, torch.set_flush_denormal),
    "NumPy's errors": _settable(
        (("divide", "warn"), ("over", "warn"), ("under", "ignore"), ("invalid", "warn")),
        lambda: tuple(np.geterr().items()),
        lambda value: np.seterr(**dict(value)),
    ),
}


@dataclass(frozen=True)
class Switches:
    """The switches with unusual values, by name, with their values. They can be pickled."""

    unusual: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def now(cls) -> "Switches":
        """The present values.

        >>> with torch.autocast("cpu"):
        ...     Switches.now()
        Switches(unusual=(('autocast', ('cpu',)),))
        """
        found = ((name, switch, switch.get()) for name, switch in _SWITCHES.items())
        return cls(tuple((name, value) for name, switch, value in found if value != switch.usual))

    @contextmanager
    def on(self) -> Iterator[None]:
        """A context manager that sets these switches to their stored values. It assumes that all others have the usual values."""
        with ExitStack() as stack:
            for name, value in self.unusual:
                stack.enter_context(_SWITCHES[name].put(value))
            yield

    @contextmanager
    def off(self) -> Iterator[None]:
        """A context manager that sets these switches to the usual values."""
        with ExitStack() as stack:
            for name, _ in self.unusual:
                stack.enter_context(_SWITCHES[name].put(_SWITCHES[name].usual))
            yield


_users: ContextVar[Switches | None] = ContextVar("users", default=None)
"""The user's values, within `usual_switches`."""


@contextmanager
def usual_switches() -> Iterator[None]:
    """A context manager for the package's own arithmetic: all switches have their usual values. Within another one it does nothing.

    >>> torch.set_default_dtype(torch.float64)
    >>> with usual_switches():
    ...     ours = torch.zeros(1).dtype
    ...     with users_switches():
    ...         theirs = torch.zeros(1).dtype
    >>> ours, theirs, torch.get_default_dtype()
    (torch.float32, torch.float64, torch.float64)
    >>> torch.set_default_dtype(torch.float32)
    """
    if _users.get() is not None:
        yield
        return
    found = Switches.now()
    token = _users.set(found)
    try:
        with found.off():
            yield
    finally:
        _users.reset(token)


@contextmanager
def users_switches() -> Iterator[None]:
    """A context manager for a user's function within `usual_switches`: the switches have the user's values again."""
    found = _users.get()
    if found is None or not found.unusual:  # nothing was changed
        yield
        return
    token = _users.set(None)
    try:
        with found.on():
            yield
    finally:
        _users.reset(token)


def no_anomaly_detection() -> AbstractContextManager[Any]:
    """A context manager for a gradient of the user's loss, in which a NaN is not an error."""
    switch = _SWITCHES["anomaly detection"]
    return switch.put(switch.usual) if torch.is_anomaly_enabled() else ExitStack()
