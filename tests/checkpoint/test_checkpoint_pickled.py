"""Files of torch.save: the tensors are the written ones, no code of the file is run, and the network is found in a training loop's file."""

import argparse
import collections
import contextlib
import datetime
import decimal
import enum
import errno
import functools
import hashlib
import importlib
import io
import operator
import os
import pickle
import random
import shutil
import subprocess
import types
import typing
import uuid
import warnings
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nncomplexity.checkpoint import load_checkpoint
from nncomplexity.checkpoint.selection import select
from nncomplexity.checkpoint.single import read_single
from nncomplexity.errors import FormatError, InputError
from nncomplexity.network import skeleton_of

WEIGHTS = {
    "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}
OTHERS = {"weight": torch.full((2, 2), 7.0)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def optimizer_of(module):
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def saved(path, content, *, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
        assert not found[name].requires_grad


# --- round trips


@FORMATS
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "ckpt"])
def test_a_state_dict_is_what_was_saved(tmp_path, suffix, zipped):
    path = saved(tmp_path / f"net.{suffix}", WEIGHTS, zipped=zipped)
    checkpoint = load_checkpoint(path)
    same(checkpoint.tensors, WEIGHTS)
    assert (checkpoint.path, checkpoint.files, checkpoint.key, checkpoint.notes) == (path, (path,), None, ())
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_modules_ordered_dict_with_its_metadata(tmp_path):
    state = network().state_dict()
    assert isinstance(state, OrderedDict)
    assert state._metadata
    same(load_checkpoint(saved(tmp_path / "net.pt", state)).tensors, state)


def test_parameters_lose_their_gradients(tmp_path):
    same(
        load_checkpoint(saved(tmp_path / "net.pt", dict(network().named_parameters()))).tensors, dict(network().named_parameters())
    )


@FORMATS
def test_shared_storage_stays_tied_and_equal_values_do_not_tie(tmp_path, zipped):
    shared = nn.Parameter(torch.eye(3))
    state = {"embed": shared, "unembed": shared, "view": shared.detach(), "row": shared.detach()[0], "twin": torch.eye(3)}
    tensors = load_checkpoint(saved(tmp_path / "net.pt", state, zipped=zipped)).tensors
    assert tensors["embed"] is tensors["unembed"]
    assert tensors["embed"] is tensors["view"]
    assert [spec.names for spec in skeleton_of(tensors).tensors] == [("embed", "unembed", "view"), ("row",), ("twin",)]


def test_a_zip_whose_entries_are_compressed_is_read_whole(tmp_path):
    plain, packed = saved(tmp_path / "plain.pt", WEIGHTS), tmp_path / "packed.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    same(load_checkpoint(packed).tensors, WEIGHTS)


# --- which state dict


def test_the_network_of_a_training_loop(tmp_path):
    module = network()
    content = {
        "epoch": 12,
        "global_step": 3400,
        "model_state_dict": module.state_dict(),
        "optimizer_state_dict": optimizer_of(module),
        "best_loss": 0.25,
        "torch_rng_state": torch.get_rng_state(),
        "loss": torch.tensor(0.5),
    }
    checkpoint = load_checkpoint(saved(tmp_path / "last.pt", content))
    same(checkpoint.tensors, module.state_dict())
    assert (checkpoint.key, checkpoint.step) == ("model_state_dict", 3400)
    assert checkpoint.notes == ("took the state dict under 'model_state_dict'; --key names another",)
    assert checkpoint.metadata == {"epoch": "12", "global_step": "3400", "best_loss": "0.25"}


def test_a_checkpoint_of_lightning(tmp_path):
    content = {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": OrderedDict(WEIGHTS),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.1), "best_k_models": {"a": torch.tensor(0.1)}}},
        "optimizer_states": [optimizer_of(network())],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"mean": torch.ones(3)},
    }
    checkpoint = load_checkpoint(saved(tmp_path / "epoch=3-step=1200.ckpt", content))
    same(checkpoint.tensors, WEIGHTS)
    assert (checkpoint.key, checkpoint.step) == ("state_dict", 1200)


@pytest.mark.parametrize(
    ("content", "key", "others"),
    [
        ({"model": WEIGHTS, "ema": OTHERS}, "model", ("ema",)),
        ({"ema": WEIGHTS, "optimizer": OTHERS}, "ema", ()),
        ({"net": WEIGHTS, "teacher": OTHERS}, "net", ("teacher",)),
        ({"params_ema": OTHERS, "params": WEIGHTS}, "params", ("params_ema",)),
        ({"anything": WEIGHTS}, "anything", ()),
        ({"model": {"state_dict": WEIGHTS, "args": {"width": 3}}}, "model.state_dict", ()),
        ({"run": {"policy": WEIGHTS}}, "run.policy", ()),
        ({"state": {"model": WEIGHTS, "opt_state": OTHERS}}, "state.model", ()),
        ({"model": WEIGHTS, "best": WEIGHTS}, "model", ()),
        ({"module": WEIGHTS, "loose": torch.ones(2)}, "module", (".",)),
        ({"policy": WEIGHTS, "score": torch.tensor(1.0), "rng": torch.ones(4)}, "policy", ()),
        ({"state_dict": WEIGHTS, "optimizer": {"inner": {"model": OTHERS}}}, "state_dict", ()),
        ({"state_dict": WEIGHTS, "hidden": {"state": {"p": OTHERS}, "param_groups": []}}, "state_dict", ()),
    ],
)
def test_what_can_only_be_meant_is_taken_and_said(tmp_path, content, key, others):
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", content))
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.key == key
    (note,) = checkpoint.notes
    assert note.startswith(f"took the state dict under {key!r}")
    assert all(other in note for other in others)
    assert ("not the one under" in note) == bool(others)


@pytest.mark.parametrize(
    ("content", "listed"),
    [
        ({"generator": WEIGHTS, "discriminator": OTHERS}, "generator, discriminator"),
        ({"model": WEIGHTS, "net": OTHERS}, "model, net"),
        ({"model": WEIGHTS, "net": OTHERS, "ema": dict(OTHERS)}, "model, net"),
        ({"ema": WEIGHTS, "critic": OTHERS}, "ema, critic"),
        ({"model": {"encoder": WEIGHTS, "decoder": OTHERS}}, "model.encoder, model.decoder"),
        ({"head": WEIGHTS, "weight": torch.ones(2)}, r"head, \."),
    ],
)
def test_where_several_could_be_meant_they_are_listed(tmp_path, content, listed):
    with pytest.raises(
        InputError, match=rf"net\.pt: several state dicts may be the network: {listed}; name one, such as --key \w"
    ) as caught:
        load_checkpoint(saved(tmp_path / "net.pt", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ema", OTHERS),
        ("agent.policy", WEIGHTS),
        ("v1.0", OTHERS),
        ("agent.v1.0.net", WEIGHTS),
        (".", {"loose": torch.ones(2)}),
    ],
)
def test_a_key_is_followed(tmp_path, key, expected):
    content = {
        "model": {"a": torch.zeros(1)},
        "ema": OTHERS,
        "agent": {"policy": WEIGHTS, "v1.0": {"net": dict(WEIGHTS)}},
        "v1.0": dict(OTHERS),
        "loose": torch.ones(2),
    }
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", content), key=key)
    same(checkpoint.tensors, expected)
    assert checkpoint.key == (None if key == "." else key)
    assert checkpoint.notes == (("left out entries that are no tensors: model, ema, agent, and 1 more",) if key == "." else ())


CONTENT = {
    "epoch": 1,
    "model": WEIGHTS,
    "parts": {"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1)}},
    "optimizer": {"state": {"p": {"m": torch.ones(1)}}, "param_groups": []},
    "solver": {"state": {"p": {"m": torch.ones(1)}}, "param_groups": []},
}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("modle", r"key: expected a state dict under 'modle' in .*net\.pt, got nothing; name one of model, parts\.a, parts\.b"),
        ("", "under ''"),
        ("model.matrix", "under 'model.matrix' .* got a single tensor; name one of model"),
        ("epoch", "got a value of type int"),
        ("parts", r"expected tensors by name under 'parts' in .*, got none; name one of parts\.a, parts\.b"),
        (".", r"expected tensors by name under '\.'"),
        ("optimizer", "got 'optimizer' in .*, which is an optimizer's state"),
        ("optimizer.state.p", "which is an optimizer's state"),
        ("solver.state.p", "which is an optimizer's state"),
    ],
)
def test_a_key_that_names_no_network(tmp_path, key, words):
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(saved(tmp_path / "net.pt", CONTENT), key=key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.ones(3), "expected a state dict or a dictionary with one in it, got a single tensor"),
        ([WEIGHTS], "got a value of type list"),
        (3, "got a value of type int"),
        ({}, "got no entry"),
        ({"epoch": 3, "args": {"lr": 0.1}}, "expected a state dict in it, tensors by name, got epoch, args; save model.state_dict"),
        ({0: torch.ones(2)}, "tensors by name, got 0"),
        (
            optimizer_of(network()),
            "tensors by name, got state, param_groups, which is an optimizer's state; name the network's file",
        ),
        ({"optimizer": optimizer_of(network()), "step": 3}, "got optimizer, step, which is an optimizer's state"),
        ({"state": {"p": {"exp_avg": torch.ones(2)}}, "param_groups": []}, "tensors by name, got state, param_groups"),
        ({"a": torch.eye(3).to_sparse()}, "expected 'a' to be a dense tensor"),
    ],
)
def test_a_file_without_a_state_dict(tmp_path, content, words):
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(saved(tmp_path / "net.pt", content))
    assert "\n" not in str(caught.value)


def test_what_is_no_tensor_is_left_out_and_said(tmp_path):
    content = {**WEIGHTS, "epoch": 4, "config": {"width": 3}, "extra._extra_state": {"scale": torch.ones(1)}, 5: torch.ones(1)}
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", content))
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.notes == ("left out entries that are no tensors: epoch, config, extra._extra_state, and 1 more",)
    assert checkpoint.step == 4


def test_plain_values_tie_no_names(tmp_path):
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", {"best": "matrix", "model": WEIGHTS}))
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.metadata == {"best": "matrix"}


def test_a_dictionary_that_holds_itself():
    content = {"model": WEIGHTS}
    content["again"] = content
    content["model"] = {**WEIGHTS, "up": content}
    assert select(content, None, "net.pt").key == "model"
    assert select(content, "model", "net.pt").key == "model"


def test_dictionaries_that_hold_themselves_or_are_very_deep(tmp_path):
    content = {"model": WEIGHTS, "": 3, "list": [1]}
    content[""] = content["list"][0] = content
    same(load_checkpoint(saved(tmp_path / "net.pt", content)).tensors, WEIGHTS)
    deep = {"w": torch.ones(1)}
    for _ in range(400):
        deep = {"a": deep}
    assert load_checkpoint(saved(tmp_path / "net.pt", deep)).tensors.keys() == {"w"}
    with pytest.raises(FormatError, match=r"net\.pt: its dictionaries are nested too deeply"):
        read_single(tmp_path / "net.pt", DEEP)


def _deep():
    """A file whose pickle has 5,000 nested dictionaries. It is made by hand, because pickle itself recurses."""
    count = 5_000
    pickled = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * count + b"}" + b"s" * count + b"."
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for name, data in (("net/data.pkl", pickled), ("net/version", b"3\n"), ("net/byteorder", b"little")):
            written.writestr(name, data)
    return content.getvalue()


DEEP = _deep()
NAMES = st.text("ab.", min_size=1, max_size=3)
TREES = st.recursive(
    st.dictionaries(NAMES, st.just(torch.ones(1)), min_size=1, max_size=2), lambda tree: st.dictionaries(NAMES, tree, max_size=3)
)


@given(TREES)
def test_every_candidate_that_is_listed_can_be_named(tree):
    try:
        chosen = select(tree, None, "net.pt")
    except InputError as error:
        if "may be the network" not in str(error) or " more;" in str(error):
            return
        keys = str(error).split("the network: ")[1].split("; name one")[0].split(", ")
        assert len(keys) > 1
    else:
        keys = [chosen.key or "."]
    for key in keys:
        assert any(isinstance(value, torch.Tensor) for value in select(tree, key, "net.pt").state.values())


# --- what stands beside the weights

BESIDE = {
    "float16": np.float16(0.5),
    "float64": np.float64(0.97),
    "swapped": np.array([0.97], ">f8")[0],
    "int": np.int64(-3),
    "byte": np.uint8(200),
    "bool": np.bool_(True),
    "text": np.str_("Grüße"),
    "version": torch.__version__,
    "complex": np.complex64(1j),
    "long double": np.longdouble(0.5),
    "date64": np.array("2020-01-01", "M8[D]")[()],
    "array": np.arange(6).reshape(2, 3),
    "objects": np.array([{"a": 1}, None], dtype=object),
    "fields": np.zeros(2, [("a", "f8"), ("b", "O")]),
    "numpy_rng": np.random.get_state(),
    "numpy_rng_dict": np.random.get_state(legacy=False),
    "python_rng": random.getstate(),
    "history": collections.defaultdict(list, loss=[1.0, 0.5]),
    "nested": collections.defaultdict(dict, a={"b": np.float32(1)}),
    "recent": collections.deque([1.0, 2.0], maxlen=3),
    "counts": collections.Counter("abca"),
    "args": argparse.Namespace(lr=0.1, out=Path("runs")),
    "options": types.SimpleNamespace(lr=0.1),
    "path": Path("runs"),
    "pure": PurePosixPath("a/b"),
    "windows": PureWindowsPath("a/b"),
    "time": datetime.datetime.now(datetime.UTC),
    "took": datetime.timedelta(seconds=3),
    "run": uuid.uuid4(),
    "price": decimal.Decimal("0.1"),
    "frozen": frozenset({1}),
    "range": range(3),
    "slice": slice(1, 2),
    "bytes": b"abc",
}
KEPT = {
    "float16": "0.5",
    "float64": "0.97",
    "swapped": "0.97",
    "int": "-3",
    "byte": "200",
    "bool": "True",
    "text": "Grüße",
    "version": str(torch.__version__),
}


@FORMATS
@pytest.mark.parametrize("name", BESIDE)
def test_what_training_loops_keep_beside_the_weights_is_no_hindrance(tmp_path, name, zipped):
    path = saved(tmp_path / "net.pt", {name: BESIDE[name], "state_dict": WEIGHTS, "inner": [BESIDE[name]]}, zipped=zipped)
    checkpoint = load_checkpoint(path)
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.key == "state_dict"
    assert checkpoint.metadata == ({name: KEPT[name]} if name in KEPT else {})


def test_the_step_may_be_a_number_of_numpys(tmp_path):
    content = {"state_dict": WEIGHTS, "best_acc": np.float64(0.97), "epoch": np.int64(3)}
    assert load_checkpoint(saved(tmp_path / "net.pt", content)).step == 3


def test_names_of_numpy_1_and_2_are_known(tmp_path):
    path = saved(tmp_path / "net.pt", {"model": WEIGHTS, "epoch": np.int64(3), "rng": np.ones(2)}, zipped=False)
    written = path.read_bytes()
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert (old in written) != (new in written)
    for module in (old, new):
        path.write_bytes(written.replace(old, module).replace(new, module))
        assert load_checkpoint(path).metadata == {"epoch": "3"}


def test_arrays_among_the_weights_are_said_to_be_left_out(tmp_path):
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", {**WEIGHTS, "mean": np.ones(3)}))
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.notes == ("left out entries that are no tensors: mean",)


def test_what_pytorch_allows_is_as_before_after_a_file_read_or_refused(tmp_path):
    mine = [np.dtype, (dict, "mine.Own")]
    with torch.serialization.safe_globals(mine):
        before = set(torch.serialization.get_safe_globals())
        load_checkpoint(saved(tmp_path / "net.pt", {"model": WEIGHTS, "epoch": np.int64(3)}))
        assert set(torch.serialization.get_safe_globals()) == before
        with pytest.raises(InputError):
            load_checkpoint(saved(tmp_path / "net.pt", {"model": WEIGHTS, "epoch": eval}))
        load_checkpoint(saved(tmp_path / "net.pt", {"model": WEIGHTS, "epoch": Config()}))
        assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(saved(tmp_path / "net.pt", {"epoch": np.int64(3)}), weights_only=True)


def test_a_type_that_the_caller_allows_is_read(tmp_path):
    path = saved(tmp_path / "net.pt", {"model": WEIGHTS, "config": Config()})
    with torch.serialization.safe_globals([Config]):
        same(load_checkpoint(path).tensors, WEIGHTS)


def test_files_are_read_by_several_threads(tmp_path):
    path = saved(tmp_path / "net.pt", {"model": WEIGHTS, "epoch": np.int64(3), "rng": np.random.get_state()})
    with ThreadPoolExecutor(4) as threads:
        assert {checkpoint.step for checkpoint in threads.map(load_checkpoint, [path] * 40)} == {3}


class Reduced:
    """An object that is pickled as a call of `function` with `arguments`, and then its state."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments, *([state] if state is not None else []))

    def __reduce__(self):
        return self.call


MULTIARRAY = np.float64(0).__reduce__()[0]


@FORMATS
@pytest.mark.parametrize(
    "value",
    [
        Reduced(MULTIARRAY, np.dtype("f8"), b"short"),
        Reduced(MULTIARRAY, np.dtype("O"), [1]),
        Reduced(MULTIARRAY, "f8", b"12345678"),
        Reduced(MULTIARRAY),
        Reduced(np.dtype, {"names": ["a"], "formats": ["O"], "offsets": [1 << 40]}),
        # A dtype that declares numbers to be pointers, and an array of such numbers.
        Reduced(
            MULTIARRAY, Reduced(np.dtype, "V8", state=(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 27)), b"12345678"
        ),
        Reduced(np.ndarray, (1 << 60,)),
        Reduced(argparse.Namespace, state={"__class__": 3, "__dict__": 4}),
        Reduced(Path, "/", state=(None, {"exists": 3})),
    ],
)
def test_calls_that_a_file_makes_up_of_such_types_come_to_nothing(tmp_path, value, zipped):
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", {"model": WEIGHTS, "extra": value}, zipped=zipped))
    same(checkpoint.tensors, WEIGHTS)
    assert checkpoint.metadata == {}


# --- what is refused


class Malicious:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Config:
    """A type of the user."""


class Level(enum.Enum):
    HIGH = 1


class Options(dict):
    """A dictionary of the user, with attributes."""

    def __init__(self, **given):
        super().__init__(given)
        self.__dict__ = given


class Steps(list):
    pass


class OwnTensor(torch.Tensor):
    pass


def _spring(what):
    _spring.to.append(what)
    return Config()


@FORMATS
def test_code_in_a_file_does_not_run(tmp_path, zipped):
    trap = tmp_path / "sprung"
    extra = [np.float64(0.5), argparse.Namespace(out=Malicious(trap))]
    path = saved(tmp_path / "net.pt", {"model": WEIGHTS, "extra": extra}, zipped=zipped)
    with pytest.raises(InputError, match=r"it asks for posix\.mkdir, which is not loaded because that can run code"):
        load_checkpoint(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap would not have worked"


def test_code_in_a_plain_pickle_does_not_run(tmp_path):
    trap = tmp_path / "sprung"
    for protocol in (2, 3, 4, 5):
        (tmp_path / "net.pt").write_bytes(pickle.dumps(Malicious(trap), protocol=protocol))
        with pytest.raises(InputError), warnings.catch_warnings(action="error"):
            load_checkpoint(tmp_path / "net.pt")
    assert not trap.exists()


@FORMATS
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (eval, r"builtins\.eval"),
        (getattr, r"builtins\.getattr"),
        (os.system, r"posix\.system"),
        (subprocess.run, r"subprocess\.run"),
        (shutil.rmtree, r"shutil\.rmtree"),
        (importlib.import_module, r"importlib\.import_module"),
        (operator.methodcaller, r"(_operator|operator)\.methodcaller"),
    ],
)
def test_what_acts_is_refused_with_what_to_do(tmp_path, value, name, zipped):
    words = rf"net\.pt: it asks for {name}, which is not loaded .*torch\.save\(model\.state_dict\(\), FILE\)$"
    for content in ({"model": WEIGHTS, "extra": value}, {"model": WEIGHTS, "extra": [Config(), Reduced(value, "1")]}):
        with pytest.raises(InputError, match=words) as caught:
            load_checkpoint(saved(tmp_path / "net.pt", content, zipped=zipped))
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)


@FORMATS
@pytest.mark.parametrize(
    "value",
    [
        Config(),
        nn.functional.relu,
        np.random.default_rng,
        Level.HIGH,
        Options(a=1),
        Steps([1, 2]),
        functools.partial(nn.LayerNorm, eps=1),
    ],
    ids=["own", "function", "numpy", "enum", "dictionary", "list", "partial"],
)
def test_other_types_are_read_as_plain_data_and_named(tmp_path, value, zipped):
    checkpoint = load_checkpoint(saved(tmp_path / "net.pt", {"model": WEIGHTS, "extra": value, "step": 3}, zipped=zipped))
    same(checkpoint.tensors, WEIGHTS)
    assert (checkpoint.key, checkpoint.step) == ("model", 3)
    assert checkpoint.notes[0].startswith("read objects of other types than tensors as data, without their code: ")


@FORMATS
@pytest.mark.parametrize(
    "kind",
    [list[int], dict[str, list[float]], int | None, typing.Optional[int], typing.Dict[str, int], typing.Callable[[int], str]],  # noqa: UP006, UP045
    ids=str,
)
def test_types_with_parameters_in_structured_options_are_no_hindrance(tmp_path, kind, zipped):
    """Values as OmegaConf's structured configurations keep them in the hyperparameters of a Lightning checkpoint."""
    content = {"state_dict": WEIGHTS, "hyper_parameters": {"cfg": Reduced(Config, kind)}, "global_step": 7}
    checkpoint = load_checkpoint(saved(tmp_path / "last.ckpt", content, zipped=zipped))
    same(checkpoint.tensors, WEIGHTS)
    assert (checkpoint.key, checkpoint.step) == ("state_dict", 7)


@FORMATS
def test_a_type_that_does_something_when_it_is_loaded_is_not_called(tmp_path, zipped):
    sprung = []
    path = saved(tmp_path / "net.pt", {"model": WEIGHTS, "extra": Reduced(_spring, "now", state={"a": 1})}, zipped=zipped)
    _spring.to = sprung
    same(load_checkpoint(path).tensors, WEIGHTS)
    assert sprung == []
    torch.load(path, weights_only=False)
    assert sprung == ["now"], "the trap would not have worked"


def test_tensors_of_a_class_of_their_own_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"its tensors are of a special class, .*OwnTensor; where it was made"):
        load_checkpoint(saved(tmp_path / "net.pt", {"a": torch.ones(2).as_subclass(OwnTensor)}))


def test_an_object_that_is_no_network_is_named(tmp_path):
    with pytest.raises(InputError, match="expected a state dict or a dictionary with one in it, got a value of type Config"):
        load_checkpoint(saved(tmp_path / "net.pt", Config()))


def archive(**entries):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for name, data in entries.items():
            written.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({"a": 1}, protocol=2), "a pickle that torch.save did not write, without arrays by name in it"),
        (pickle.dumps({"a": 1}, protocol=4), "a pickle that torch.save did not write, without arrays by name in it"),
        (archive(readme="hello"), "a zip archive that torch.save did not write, of readme; unpack it"),
        (
            archive(net__data_pkl=b"", net__constants_pkl=b""),
            r"a TorchScript archive; save its weights alone: torch\.save\(torch\.jit",
        ),
        (archive(net__data_pkl=b"hello"), "cut or damaged"),
    ],
    ids=["pickle 2", "pickle 4", "zip", "torchscript", "no pickle"],
)
def test_a_file_that_torch_save_did_not_write(tmp_path, content, words):
    (tmp_path / "net.pt").write_bytes(content)
    with pytest.raises(FormatError, match=words) as caught:
        load_checkpoint(tmp_path / "net.pt")
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@FORMATS
def test_every_cut_is_refused(tmp_path, zipped):
    path = saved(tmp_path / "net.pt", {"model": {"a": torch.ones(8)}}, zipped=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        # The file is cut within the name of a type, so the pickle of the older format asks for a type that doesn't exist.
        with pytest.raises(FormatError if zipped else InputError) as caught:
            load_checkpoint(path)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)


@FORMATS
def test_damage_is_refused_or_changes_values_only(tmp_path, zipped):
    path = saved(tmp_path / "net.pt", {"model": {"a": torch.ones(8)}}, zipped=zipped)
    whole = path.read_bytes()
    for position in range(0, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
        with contextlib.suppress(InputError):  # anything else fails the test
            load_checkpoint(path)


def test_a_disk_that_fails_is_not_called_damage(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = saved(tmp_path / "net.pt", WEIGHTS)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError, match=r"net\.pt: cannot read it \(Input/output error\); name a \.safetensors file") as caught:
        load_checkpoint(path)
    assert not isinstance(caught.value, FormatError)
