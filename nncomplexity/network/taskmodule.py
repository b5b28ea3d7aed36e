"""Finds the user's functions by names such as `mytask:loss`, from the current folder, and calls them with a network.

A module may change the current folder when it is imported. Its functions are then called in the new folder, as they would be in the user's own
program. Paths on the command line still refer to the folder in which this program was started.
"""

import ast
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.calling import derivatives, fixed_random_state
from nncomplexity.network.distortion import preserved_random_state, set_random_state
from nncomplexity.network.losses import number_of
from nncomplexity.network.modulestate import copied, load_into, settle, show_only, tensors_of
from nncomplexity.network.naming import Naming, adapter_naming, namings, unchanged, unfit, unfitness
from nncomplexity.network.usercode import called, hint, needs_derivatives, raised
from nncomplexity.network.weights import ModuleOrTensors, Private, Skeleton, skeleton_of
from nncomplexity.words import is_file, listed

Function = Callable[..., Any]

_went_to: dict[str, str] = {}
"""Modules that changed the current folder when they were imported, and the new folder. A module is imported only once."""


@dataclass(frozen=True)
class Task:
    """The user's functions, and how to make their argument from weights.

    Without `build`, the argument is a dict of tensors, in which tied names are one tensor. With `build`, the argument is the module
    that `build` returns, with the weights loaded.
    """

    loss_fn: Function
    build: Function | None = None
    risk_fn: Function | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009 -- devices are immutable
    folder: str | None = None
    """The folder in which the functions are called; None is the current folder."""

    def place(self) -> contextlib.AbstractContextManager[None]:
        """A context manager in which this folder is the current one."""
        return contextlib.chdir(self.folder or ".")

    @property
    def files(self) -> tuple[str, ...]:
        """The source files of the functions."""
        functions = (getattr(self.loss_fn, "outputs", self.loss_fn), self.build, self.risk_fn)
        modules = [sys.modules.get(getattr(one, "__module__", None) or "") for one in functions]
        return tuple(file for module in modules if (file := getattr(module, "__file__", None)))

    def network(self, weights: Mapping[str, Tensor]) -> nn.Module | Private:
        """The argument of the functions, with a copy of `weights` on the device. Each call makes a fresh module.

        Raises:
            InputError: `build` fails, or names, shapes or values don't fit the module that it returns.
        """
        if self._module is None:
            skeleton = skeleton_of(weights)
            return Private(skeleton.expand({spec.name: weights[spec.name].to(self.device, copy=True) for spec in skeleton.tensors}))
        module, naming = self._fresh(self._module), self.naming(weights)
        if naming.adapter:
            show_only(module, {name: shown for shown, name in naming.names.items()})
            naming = unchanged(weights)
        _load(module, weights, naming)
        return module

    def naming(self, weights: Mapping[str, Tensor]) -> Naming:
        """The module's names for the names of a checkpoint.

        Prefixes that wrappers added are removed, if the names fit only without them. The names do not change if they fit in no way or in
        several ways, or if there is no module.
        """
        if self._module is None:
            return unchanged(weights)
        names = [spec.names for spec in architecture_of(self._module).tensors]
        found = namings(weights, names, whole=True)
        adapter = None if found else adapter_naming(weights, names)
        return adapter or (found[0] if len(found) == 1 else unchanged(weights))

    def loss(self, weights: Mapping[str, Tensor]) -> float:
        """The loss of the weights, which may be NaN or infinite. Raises InputError if it is not a number."""
        return self.value("loss_fn", self.loss_fn, weights)

    def risk(self, weights: Mapping[str, Tensor]) -> float:
        """The share of examples on which the weights are wrong. Raises InputError if it isn't in [0, 1]."""
        if self.risk_fn is None:
            raise InputError("risk_fn: expected a function that returns the error rate, got none")
        with self.place():
            return risk_of("risk_fn", self.risk_fn, lambda: self.network(weights))

    @cached_property
    def _module(self) -> nn.Module | None:
        """The module that `build` returns. It is only copied: no weights are loaded into it, and no function is called with it."""
        return None if self.build is None else self._built(self.build)

    def _fresh(self, module: nn.Module) -> nn.Module:
        """A fresh module: a copy, or built again if it can't be copied."""
        other = copied(module)
        if other is not None:
            settle(tensors_of(other), architecture_of(module))
            return other
        return self._built(self.build) if self.build else module

    def _built(self, build: Function) -> nn.Module:
        # A module may contain random numbers outside its weights. The fixed random state makes them the same in every build.
        if isinstance(build, nn.Module):
            raise InputError(
                f"model: expected a function that returns an nn.Module, got a module itself ({type(build).__name__}); define a function that "
                "returns a new one"
            )
        with preserved_random_state(), command_line_of(build), self.place():
            set_random_state(fixed_random_state())
            module = called("model", build, name=_name(build))
        if not isinstance(module, nn.Module):
            raise InputError(f"model: expected a function that returns an nn.Module, got {type(module).__name__}")
        held = [*module.named_parameters(), *module.named_buffers()]
        if empty := [name for name, tensor in held if tensor.is_meta]:
            raise InputError(
                f"model: expected a module with its tensors in memory, got {listed(empty)} on the meta device; "
                f"build it on the CPU or, where the checkpoint has all of them, return module.to_empty(device='cpu')"
            )
        try:
            return module.to(self.device)
        except Exception as error:  # quantized modules can't be moved, and an accelerator may be out of memory
            raise InputError(f"model: {_raised(error, f'moving the module to {self.device}')}") from error

    def value(self, option: str, function: Function, weights: Mapping[str, Tensor]) -> float:
        """The result of the function of `option` for the weights (`value_of`)."""
        with self.place():
            return value_of(option, function, lambda: self.network(weights))


def value_of(option: str, function: Function, network: Callable[[], object]) -> float:
    """The result of the function of `option` for a network, as a number (`result_of`).

    Raises:
        InputError: the function raises, or its result is no number.
    """
    return number_of(result_of(option, function, network), option)


def result_of(option: str, function: Function, network: Callable[[], object], *, derives: bool = False) -> Any:
    """The result of the function of `option` for a network, with gradients on if it computes derivatives itself.

    Args:
        option: the option or argument to name in messages.
        function: the user's function.
        network: a function that makes the argument of each call.
        derives: whether the function is known to compute derivatives.

    Returns:
        The result of the function.

    Raises:
        InputError: the function raises.
    """
    made = network()
    given = dict(made) if isinstance(made, Private) else made
    with preserved_random_state(), derivatives() if derives else torch.no_grad():
        set_random_state(fixed_random_state())
        try:
            return called(option, function, given, name=_name(function))
        except InputError as error:
            if derives or not needs_derivatives(error.__cause__):
                raise
    return result_of(option, function, network, derives=True)


def risk_of(option: str, function: Function, network: Callable[[], object]) -> float:
    """The share of examples on which a network, made as in `value_of`, is wrong. Raises InputError if it isn't in [0, 1]."""
    risk = value_of(option, function, network)
    if not 0 <= risk <= 1:
        raise InputError(f"{option}: expected the share of wrong answers, in [0, 1], got {risk}")
    return risk


def find_function(spec: str, option: str) -> Function:
    """The function of the name `MODULE:NAME` or `FILE.py:NAME`. Python searches for the module in the current folder first.

    The current folder, or that of the file, is put at the front of `sys.path` and stays there, so that the module can import other
    modules from it at any time. Dots are allowed on both sides: `package.task:Losses.train`.

    Args:
        spec: the text that the user typed.
        option: the name of the option, for messages.

    Returns:
        The function.

    Raises:
        InputError: there is no such function.

    >>> find_function("math:sqrt", "--loss-fn")(9.0)
    3.0
    """
    place, _, path = spec.rpartition(":")
    file = Path(place) if place.endswith(".py") else None
    names = place.split(".") if file is None else [file.stem]
    if not all(part.isidentifier() for part in [*names, *path.split(".")]):
        raise InputError(f"{option}: expected MODULE:FUNCTION, such as mytask:loss for loss() in ./mytask.py, got {spec!r}")
    module = _import(place, option) if file is None else _import_file(file, option)
    try:
        function = reduce(getattr, path.split("."), module)
    except AttributeError:
        raise InputError(f"{option}: module {module.__name__} ({_origin(module)}) has no {path!r}; define it there") from None
    if not callable(function):
        raise InputError(f"{option}: expected {spec} to be a function, got {type(function).__name__}")
    return function


def folder_of(*specs: str | None) -> str | None:
    """The new current folder of the first module among those of these functions that changed it; None if no module did."""
    return next((_went_to[name] for spec in specs if spec and (name := _module_of(spec)) in _went_to), None)


def find_device(name: str) -> torch.device:
    """The device of that name. Raises InputError if this machine doesn't have it."""
    try:
        device = torch.device(name)
        # The copy to the CPU fails on the meta device, whose tensors have no values.
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        raise InputError(f"device: expected a device of this machine, such as cpu, cuda or cuda:1, got {name!r}") from None
    return device


def architecture_of(network: ModuleOrTensors) -> Skeleton:
    """Names, shapes, dtypes and ties of a module's state, or of a mapping."""
    return skeleton_of(tensors_of(network) if isinstance(network, nn.Module) else network)


def _import_file(file: Path, option: str) -> ModuleType:
    if not is_file(file):
        raise InputError(f"{option}: no file {file}; give a path from the current folder, or a module, such as mytask:loss")
    name, folder = _named_by_file(file)
    module = _import(name, option, folder)
    if not module.__file__ or not file.samefile(module.__file__):
        raise InputError(f"{option}: another module is already called {name} ({_origin(module)}); rename {file}")
    return module


def _named_by_file(file: Path) -> tuple[str, Path]:
    """The name with which a file is imported, and the folder from which it is imported."""
    source = file.resolve()  # if the file is a link, imports refer to the folder of its target
    folder = _root_of_package(source) if _imports_relatively(source) else source.parent
    return ".".join(source.relative_to(folder).with_suffix("").parts), folder


def _imports_relatively(source: Path) -> bool:
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):  # the import will report this error
        return False
    return any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))


def _root_of_package(source: Path) -> Path:
    """The folder that contains a file's package: the first folder above it that is not a package, or else the current one."""
    folder = next(one for one in source.parents if not (one / "__init__.py").is_file())
    here = Path.cwd().resolve()
    return here if folder == source.parent and source.is_relative_to(here) else folder


def _import(name: str, option: str, folder: Path | None = None) -> ModuleType:
    """Import the module of that name. `folder`, by default the current one, is searched first."""
    called_from = os.getcwd()  # noqa: PTH109
    here = str(folder or called_from)
    if here not in sys.path[:1]:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # the file may have been written a moment ago, for example by `nncomplexity init`
    if name not in sys.modules:
        # The module will run again, and may now stay in this folder.
        _went_to.pop(name, None)
    try:
        with _command_line(name):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"{option}: no module {name!r} in {here} or among the installed ones; run from its folder") from None
        raise InputError(f"{option}: {_raised(error, f'import {name}')}") from error
    except SystemExit as error:
        raise InputError(
            f"{option}: {_raised(error, f'import {name}')}; it ends the program when it is imported: put its script code, such "
            'as parse_args(), below if __name__ == "__main__":'
        ) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InputError(f"{option}: {_raised(error, f'import {name}')}{hint(error, None)}") from error
    finally:
        if (now := os.getcwd()) != called_from:  # noqa: PTH109
            _went_to[name] = now
            os.chdir(called_from)


@contextlib.contextmanager
def _command_line(name: str) -> Iterator[None]:
    """Within the block, `sys.argv` is that of a script of this name without arguments.

    The user's code may parse a command line, and must not see this program's arguments.
    """
    kept = sys.argv
    sys.argv = [f"{name.rpartition('.')[2]}.py"]
    try:
        yield
    finally:
        sys.argv = kept


def command_line_of(function: Function) -> contextlib.AbstractContextManager[None]:
    """A context manager in which the function sees a command line without arguments."""
    return _command_line(getattr(function, "__module__", None) or "task")


def _module_of(spec: str) -> str:
    place = spec.rpartition(":")[0]
    return _named_by_file(Path(place))[0] if place.endswith(".py") else place


def _raised(error: BaseException, what: str) -> str:
    """One line on an exception of the user's code: the call, the exception, and its place in the user's files."""
    return f"{what} raised {raised(error)}"


def _name(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _origin(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"


def _load(module: nn.Module, checkpoint: Mapping[str, Tensor], naming: Naming) -> None:
    """Copy the weights into the module. Each of its tensors must get values, by at least one of its names."""
    skeleton = skeleton_of(tensors_of(module))
    tensors, names = skeleton.tensors, [spec.names for spec in skeleton.tensors]
    if unfit(naming, names):
        raise InputError(f"model: the checkpoint does not fit the module: {unfitness(checkpoint, names)}")
    weights = naming.of(checkpoint)
    misfits = []
    for spec in tensors:
        given = [weights[name] for name in spec.names if name in weights]
        first = given[0]
        if tuple(first.shape) != spec.shape:
            misfits.append(f"{spec.name} is {tuple(first.shape)} in the checkpoint and {spec.shape} in the module")
        elif not all(other is first or torch.equal(other, first) for other in given):
            misfits.append(f"{spec.name} is tied to {listed(spec.names[1:])} in the module and differs in the checkpoint")
        elif first.dtype != spec.dtype and not torch.equal(first.to(spec.dtype).to(first.dtype), first):
            misfits.append(f"{spec.name} is {first.dtype} in the checkpoint and {spec.dtype} in the module, which would change it")
    if misfits:
        raise InputError(f"model: the checkpoint does not fit the module: {listed(misfits, separator='; ')}")
    load_into(module, skeleton, {spec.name: next(weights[name] for name in spec.names if name in weights) for spec in tensors})
