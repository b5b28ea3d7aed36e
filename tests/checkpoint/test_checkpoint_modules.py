"""Whole modules: their tensors have the names of their state dicts, and none of their code is run."""

import contextlib
import enum
import functools
import io
import logging
import pathlib
import re
import warnings
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.checkpoint.legacy import ClassWithSource, without_sources
from nncomplexity.checkpoint.modules import modules_opened
from nncomplexity.checkpoint.placeholders import Inert, names_in
from nncomplexity.errors import FormatError, InputError
from nncomplexity.network import skeleton_of

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Mode(enum.Enum):
    FAST = 1


class Options(dict):
    pass


class Slots:
    __slots__ = ("one", "two")

    def __init__(self) -> None:
        self.one, self.two = 1, torch.ones(2)


class Rich(nn.Module):
    """A module with what real modules have: ties, all kinds of buffers, functions, options, and one module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.body = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU())
        self.again = self.body
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.TransformerEncoderLayer(4, 2, 8)])
        self.parts = nn.ParameterDict({"a": nn.Parameter(torch.ones(1))})
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("transient", torch.ones(3), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("none", None)
        self.plain = torch.ones(2)
        self.activation, self.norm = nn.functional.relu, functools.partial(nn.LayerNorm, eps=1e-6)
        self.mode, self.options, self.slots = Mode.FAST, Options(a=1), Slots()
        self.history, self.path, self.device = defaultdict(list, a=[1]), pathlib.Path("x"), torch.device("cpu")
        self.log, self.pattern, self.mean = logging.getLogger("x"), re.compile("a"), np.ones(3)


class Trap(nn.Module):
    sprung = False

    def __setstate__(self, state: Any) -> None:
        type(self).sprung = True
        self.__dict__.update(state)


def rich() -> Rich:
    torch.manual_seed(0)
    return Rich()


def saved(path: pathlib.Path, content: object, *, zipped: bool = True) -> pathlib.Path:
    with warnings.catch_warnings(action="ignore"):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    assert all(found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items())


@FORMATS
def test_a_module_is_its_state_dict(tmp_path: pathlib.Path, zipped: bool) -> None:
    module = rich()
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", module, zipped=zipped))
    same(checkpoint.tensors, module.state_dict())
    assert checkpoint.key is None
    assert checkpoint.notes == (f"read a whole module, {__name__}.Rich, by the names of its state_dict(), without its code",)
    assert "transient" not in checkpoint.tensors
    groups = [spec.names for spec in skeleton_of(checkpoint.tensors).tensors if len(spec.names) > 1]
    assert ("embed.weight", "head.weight") in groups
    assert ("body.0.weight", "again.0.weight") in groups


@FORMATS
@pytest.mark.parametrize(
    "make", [nn.DataParallel, lambda module: nn.utils.weight_norm(module.head) and module, lambda module: module.half()]
)
def test_wrapped_and_changed_modules_are_their_state_dicts(tmp_path: pathlib.Path, zipped: bool, make: Any) -> None:
    with warnings.catch_warnings(action="ignore"):
        module = make(rich())
    same(load_checkpoint(saved(tmp_path / "net.pt", module, zipped=zipped)).tensors, module.state_dict())


@FORMATS
def test_modules_in_a_training_loops_dictionary(tmp_path: pathlib.Path, zipped: bool) -> None:
    module, ema = rich(), nn.Linear(2, 2)
    content = {"model": module, "ema": ema, "best": module, "epoch": 3, "optimizer": None, "nested": {"critic": nn.Linear(1, 1)}}
    path = saved(tmp_path / "net.pt", content, zipped=zipped)
    checkpoint = load_checkpoint(path)
    same(checkpoint.tensors, module.state_dict())
    assert (checkpoint.key, checkpoint.step) == ("model", 3)
    assert "Rich under 'model', torch.nn.modules.linear.Linear under 'ema'" in checkpoint.notes[0]
    assert "not the one under ema, nested.critic" in checkpoint.notes[1]
    same(load_checkpoint(path, key="ema").tensors, ema.state_dict())
    same(load_checkpoint(path, key="nested.critic").tensors, content["nested"]["critic"].state_dict())


@FORMATS
def test_no_code_of_a_module_runs(tmp_path: pathlib.Path, zipped: bool) -> None:
    module = nn.Sequential(nn.Linear(2, 2), Trap())
    path = saved(tmp_path / "net.pt", module, zipped=zipped)
    same(load_checkpoint(path).tensors, module.state_dict())
    assert not Trap.sprung
    torch.load(path, weights_only=False)
    assert Trap.sprung, "the trap would not have worked"
    Trap.sprung = False


@FORMATS
def test_a_module_that_asks_for_what_acts_is_refused(tmp_path: pathlib.Path, zipped: bool) -> None:
    module = nn.Linear(2, 2)
    module.hook = module.forward  # a bound method is pickled as a call of getattr
    with pytest.raises(InputError, match=r"it asks for builtins\.getattr, which is not loaded because that can run code"):
        load_checkpoint(saved(tmp_path / "net.pt", module, zipped=zipped))


def test_a_module_whose_weights_are_packed_is_refused(tmp_path: pathlib.Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(2, 2)), {nn.Linear})
    words = r"expected a module under '0' of the module, got an object of type torch\.ao\.nn\.quantized\.[\w.]+, which can't be read without"
    with pytest.raises(InputError, match=words):
        load_checkpoint(saved(tmp_path / "net.pt", module))


def module_of(**parts: Any) -> Inert:
    made = Inert()
    made.state = {"_parameters": {}, "_buffers": {}, "_modules": {}} | parts
    return made


def test_what_only_looks_like_a_module_is_refused() -> None:
    within_itself = module_of()
    within_itself.state["_modules"]["again"] = within_itself
    for module, words in (
        (within_itself, "expected a module under 'again'"),
        (
            module_of(_modules={"a": module_of(_modules={"b": 3})}),
            "expected a module under 'a.b' of the module, got an object of type int",
        ),
        (module_of(_modules={"a": Inert()}), r"got an object of type nncomplexity\.checkpoint\.placeholders\.Inert"),
        (module_of(_parameters={"a": Inert()}), "expected a tensor under 'a' of the module"),
    ):
        with pytest.raises(InputError, match=words):
            modules_opened(module, "net.pt")


def test_an_inert_object_takes_everything_and_does_nothing() -> None:
    made = Inert(1, 2, three=3)
    made["a"] = 4
    made.__setstate__({"state": {"b": 5}, "__class__": 6})
    assert (made.state, type(made)) == ({"state": {"b": 5}, "__class__": 6}, Inert)


def test_dictionaries_are_opened_once_each() -> None:
    content: dict[str, Any] = {"a": module_of(_parameters={"w": torch.ones(1)}), "n": 3, "list": [1]}
    content["again"], content["itself"] = content["a"], content
    opened, classes = modules_opened(content, "net.pt")
    assert opened["a"] is opened["again"]
    assert opened["itself"] is opened
    assert (list(classes), opened["a"], opened["n"]) == (["a"], {"w": torch.ones(1)}, 3)


def test_names_are_those_of_python_3() -> None:
    assert names_in(io.BytesIO(b"\x80\x02c__builtin__\nset\nccopy_reg\n_reconstructor\n0c__builtin__\nxrange\n.")) == {
        "builtins.set",
        "copyreg._reconstructor",
        "builtins.range",
    }


def test_classes_with_their_source_are_called_for_nothing_but_themselves(tmp_path: pathlib.Path) -> None:
    content = saved(tmp_path / "net.pt", [rich(), nn.Linear(2, 2)], zipped=False).read_bytes()
    assert b"def __init__" in content
    changed = without_sources(content)
    assert changed.count(b"ClassWithSource") >= 2
    plain = saved(tmp_path / "plain.pt", OrderedDict(w=torch.ones(2), module=("module", 1, 2, 3)), zipped=False).read_bytes()
    assert without_sources(plain) == plain
    assert ClassWithSource("module", Rich, "a.py", "class Rich") is Rich


@FORMATS
def test_damage_of_a_module_is_refused_or_changes_values_only(tmp_path: pathlib.Path, zipped: bool) -> None:
    path = saved(tmp_path / "net.pt", nn.Sequential(nn.Linear(1, 1)), zipped=zipped)
    whole = path.read_bytes()
    for position in range(0, len(whole), len(whole) // 150):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with contextlib.suppress(InputError):  # anything else fails the test
            load_checkpoint(path)
    for length in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            load_checkpoint(path)
