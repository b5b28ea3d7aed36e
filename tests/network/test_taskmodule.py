"""The user's functions: they are found by their names from the current folder, get the right argument, and are named in errors."""

import colorsys
import sys

import numpy as np
import pytest
import torch
from torch import nn

from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.network import Task, architecture_of, find_device, find_function
from nncomplexity.network.naming import adapter_naming


class Net(nn.Module):
    """A module with two names for one weight, and a buffer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(0))


WEIGHTS = {"first.weight": torch.eye(3), "second.weight": torch.eye(3), "count": torch.tensor(5)}


def total(network):
    values = network.parameters() if isinstance(network, nn.Module) else network.values()
    return sum(value.double().sum() for value in values)


# --- finding


@pytest.fixture
def in_the_end_as_before():
    yield
    assert sys.modules["colorsys"] is colorsys


def test_a_module_of_the_current_folder_comes_first(in_the_end_as_before, workplace, monkeypatch):
    (workplace / "colorsys.py").write_text("def loss(w): return 'ours'")
    monkeypatch.delitem(sys.modules, "colorsys")
    assert find_function("colorsys:loss", "--loss-fn")({}) == "ours"


def test_packages_neighbours_and_attributes(workplace):
    (workplace / "deep").mkdir()
    (workplace / "deep" / "losses.py").write_text("import neighbour\nclass Losses:\n    train = staticmethod(neighbour.loss)\n")
    (workplace / "neighbour.py").write_text("def loss(w): return 3.0")
    assert find_function("deep.losses:Losses.train", "--loss-fn")({}) == 3.0


def test_a_later_import_of_a_neighbour_is_found(workplace):
    (workplace / "late.py").write_text("def loss(w):\n    import later\n    return later.VALUE\n")
    (workplace / "later.py").write_text("VALUE = 2.0")
    assert find_function("late:loss", "--loss-fn")({}) == 2.0


def test_a_file_is_a_module_with_its_neighbours(workplace):
    (workplace / "deep").mkdir()
    (workplace / "deep" / "byfile.py").write_text("import beside\nclass Losses:\n    train = staticmethod(beside.loss)\n")
    (workplace / "deep" / "beside.py").write_text("def loss(w): return 4.0")
    assert find_function("deep/byfile.py:Losses.train", "--loss-fn")({}) == 4.0
    assert find_function(f"{workplace}/deep/beside.py:loss", "--loss-fn")({}) == 4.0


def test_a_link_to_a_file_is_that_file(workplace):
    (workplace / "deep").mkdir()
    (workplace / "deep" / "linked_to.py").write_text("def loss(w): return 5.0")
    (workplace / "link.py").symlink_to("deep/linked_to.py")
    assert find_function("link.py:loss", "--loss-fn")({}) == 5.0


def test_a_file_that_is_not_there_or_not_what_its_name_leads_to_is_refused(workplace):
    with pytest.raises(InputError, match=r"--loss-fn: no file deep/none.py; give a path from the current folder"):
        find_function("deep/none.py:loss", "--loss-fn")
    (workplace / "math.py").write_text("def loss(w): return 4.0")
    with pytest.raises(InputError, match=r"--loss-fn: another module is already called math .*; rename math.py"):
        find_function("math.py:loss", "--loss-fn")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "loss",
        "task:",
        ":loss",
        ".py:loss",
        "my-task.py:loss",
        "a.b.py:loss",
        "a/b:loss",
        "task:loss()",
        "task:loss:more",
        "1task:loss",
    ],
)
def test_a_malformed_name_says_how_one_looks(spec):
    with pytest.raises(InputError, match="--loss-fn: expected MODULE:FUNCTION, such as mytask:loss"):
        find_function(spec, "--loss-fn")


@pytest.mark.parametrize(
    ("source", "spec", "words"),
    [
        ("", "absent:loss", "no module 'absent' in .* or among the installed ones"),
        ("", "absent.deeper:loss", "no module 'absent.deeper'"),
        ("", "given.deeper:loss", "no module .given.deeper."),
        ("x = 1", "given:loss", r"module given \(.*given.py\) has no 'loss'"),
        ("loss = 3", "given:loss", "expected given:loss to be a function, got int"),
        (
            "import absent_library",
            "given:loss",
            r"import given raised ModuleNotFoundError: .*absent_library.* \(given.py, line 1\)",
        ),
        ("\n\nraise OSError('no data\\nat all')", "given:loss", r"import given raised OSError: no data \(given.py, line 3\)"),
        ("def loss(w:", "given:loss", r"import given raised SyntaxError: .*given.py, line 1"),
        ("raise SystemExit(0)", "given:loss", r"import given raised SystemExit: 0 \(given.py, line 1\)"),
        ("raise RuntimeError", "given:loss", r"import given raised RuntimeError \(given.py, line 1\)"),
    ],
)
def test_what_is_wrong_with_a_module_is_said_in_one_line(workplace, source, spec, words):
    (workplace / "given.py").write_text(source)
    with pytest.raises(InputError, match=f"--risk-fn: .*{words}") as caught:
        find_function(spec, "--risk-fn")
    assert "\n" not in str(caught.value)


def test_a_device_that_is_there():
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "abacus", "cuda:99", "meta"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(InputError, match="device: expected a device of this machine"):
        find_device(name)


# --- what the functions are called on


def test_without_build_the_functions_get_copies_under_all_names():
    weights = {"a": torch.ones(2), "b": torch.zeros(3)}
    weights["tied"] = weights["a"]

    def loss(given):
        assert given["a"] is given["tied"]
        given["a"] += 1
        return given["a"].sum()

    assert Task(loss).loss(weights) == 4.0
    assert torch.equal(weights["a"], torch.ones(2))


def test_with_build_they_get_the_module_with_the_weights():
    task = Task(total, build=Net)
    network = task.network(WEIGHTS)
    assert isinstance(network, Net)
    assert network.first.weight is network.second.weight
    assert network.count == 5
    assert task.loss(WEIGHTS) == 3.0


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_one_name_of_a_tie_is_enough(name):
    network = Task(total, build=Net).network({name: torch.eye(3), "count": torch.tensor(5)})
    assert torch.equal(network.first.weight, torch.eye(3))


def test_a_dtype_that_holds_the_values_is_fine():
    given = {"first.weight": torch.eye(3, dtype=torch.float16), "count": torch.tensor(5)}
    assert torch.equal(Task(total, build=Net).network(given).first.weight, torch.eye(3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first.weight": None, "second.weight": None}, "missing first.weight$"),
        ({"count": None, "extra": torch.ones(1)}, "missing count; unexpected extra$"),
        (
            {f"extra{i}": torch.ones(1) for i in range(5)},
            "unexpected extra0, extra1, extra2, and 2 more; register them",
        ),
        ({"count": torch.ones(2)}, r"count is \(2,\) in the checkpoint and \(\) in the module$"),
        (
            {"second.weight": torch.zeros(3, 3)},
            "first.weight is tied to second.weight in the module and differs in the checkpoint$",
        ),
        (
            {"count": torch.tensor(0.5)},
            "count is torch.float32 in the checkpoint and torch.int64 in the module, which would change it$",
        ),
    ],
)
def test_weights_that_do_not_fit_the_module(change, words):
    weights = {name: tensor for name, tensor in {**WEIGHTS, **change}.items() if tensor is not None}
    with pytest.raises(InputError, match=f"model: the checkpoint does not fit the module: .*{words}"):
        Task(total, build=Net).network(weights)


def test_a_build_that_fails_or_makes_something_else():
    def build():
        raise OSError("no config")

    with pytest.raises(InputError, match="model: build raised OSError: no config"):
        Task(total, build=build).network(WEIGHTS)
    with pytest.raises(InputError, match=r"model: expected a function that returns an nn.Module, got type"):
        Task(total, build=lambda: Net).network(WEIGHTS)
    with pytest.raises(
        InputError, match=r"model: expected a function .*, got a module itself \(Net\); define a function that returns"
    ):
        Task(total, build=Net()).network(WEIGHTS)


def test_a_wrapper_around_the_network_of_the_checkpoint_is_told_so():
    words = "with 'module.' before them 3 of its 3 names fit; return its part 'module' alone, which these names are of$"
    with pytest.raises(InputError, match=f"model: the checkpoint does not fit the module: {words}"):
        Task(total, build=lambda: nn.DataParallel(Net())).network(WEIGHTS)


def test_a_module_without_memory_or_that_does_not_move():
    def build():
        return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta"))

    words = r"model: expected a module with its tensors in memory, got 1\.weight, 1\.bias on the meta device; build it on the CPU"
    with pytest.raises(InputError, match=rf"{words} or, .* return module\.to_empty\(device='cpu'\)$"):
        Task(total, build=build).network(WEIGHTS)

    class Fixed(Net):
        def to(self, *_, **__):
            raise ValueError("not for 4-bit models\nand more")

    with pytest.raises(InputError, match=r"model: moving the module to cpu raised ValueError: not for 4-bit models \("):
        Task(total, build=Fixed).network(WEIGHTS)


# --- what they return


@pytest.mark.parametrize("value", [0.25, torch.tensor(0.25), np.float32(0.25), np.array(0.25)])
def test_numbers_and_scalar_tensors_count(value):
    task = Task(lambda _: value, risk_fn=lambda _: value)
    assert task.loss(WEIGHTS) == task.risk(WEIGHTS) == 0.25


def test_a_loss_may_be_nan_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    assert Task(lambda _: torch.rand(()) * float("nan")).loss(WEIGHTS) != 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.ones(2), r"got a tensor of shape \(2,\)"),
        ("0.5", "got str"),
        (None, "got NoneType"),
        (torch.tensor(1j), r"got a complex number; take its abs\(\)"),
    ],
)
def test_a_value_that_is_no_number(value, words):
    with pytest.raises(InputError, match=f"loss_fn: expected a float or a 0-d tensor, {words}"):
        Task(lambda _: value).loss(WEIGHTS)


def test_a_function_that_raises(workplace):
    (workplace / "given.py").write_text("def loss(w):\n    return w['absent']\n")
    with pytest.raises(InputError, match=r"loss_fn: loss raised KeyError: 'absent' \(given.py, line 2\)"):
        Task(find_function("given:loss", "--loss-fn")).loss(WEIGHTS)


@pytest.mark.parametrize("risk", [-0.1, 1.5, float("nan")])
def test_a_risk_outside_its_range(risk):
    with pytest.raises(InputError, match=r"risk_fn: expected the share of wrong answers, in \[0, 1\]"):
        Task(total, risk_fn=lambda _: risk).risk(WEIGHTS)


def test_a_risk_that_was_not_given():
    with pytest.raises(InputError, match="risk_fn: expected a function that returns the error rate, got none"):
        Task(total).risk(WEIGHTS)


def test_the_architecture_is_the_same_for_module_and_mapping():
    module = Net()
    assert set(architecture_of(module).tensors) == set(architecture_of(module.state_dict()).tensors)


# --- names of wrappers


def prefixed(prefix, names=("first.weight", "second.weight", "count")):
    return {prefix + name: WEIGHTS[name] for name in names}


@pytest.mark.parametrize(
    ("before", "prefix", "compiled"),
    [
        ("", "", False),
        ("module.", "module.", False),
        ("net.", "net.", False),
        ("_orig_mod.", "", True),
        ("module._orig_mod.", "module.", True),
        ("_orig_mod.module.", "module.", True),
        ("model.module.", "model.module.", False),
    ],
)
def test_what_a_wrapper_writes_is_taken_off(before, prefix, compiled):
    task = Task(total, build=Net)
    naming = task.naming(prefixed(before))
    assert (naming.prefix, naming.compiled, naming.left_out) == (prefix, compiled, ())
    assert task.loss(prefixed(before)) == task.loss(WEIGHTS) == 3 + 3 + 5 - 3 - 5


def test_of_tied_names_one_is_enough_behind_a_prefix():
    assert Task(total, build=Net).naming(prefixed("module.", ("second.weight", "count"))).prefix == "module."


@pytest.mark.parametrize(
    ("checkpoint", "note"),
    [
        (
            torch.optim.swa_utils.AveragedModel(Net()).state_dict(),
            "removed 'module.' from the names, so that they fit it, and left out names without it: n_averaged",
        ),
        (
            {"criterion.weight": torch.ones(2), **prefixed("model.")},
            "removed 'model.' from the names, so that they fit it, and left out names without it: criterion.weight",
        ),
        (
            {"first._orig_mod.weight": torch.eye(3), "count": torch.tensor(5)},
            "removed '_orig_mod.' from the names, so that they fit it",
        ),
        (
            {"module.net.first._orig_mod.weight": torch.eye(3), "module.net.count": torch.tensor(5)},
            "removed 'module.net.' and '_orig_mod.' from the names, so that they fit it",
        ),
        (WEIGHTS, None),
    ],
)
def test_what_stands_beside_a_network_is_left_out_and_said(checkpoint, note):
    task = Task(total, build=Net)
    assert task.naming(checkpoint).note("it") == note
    assert isinstance(task.network(checkpoint), Net)


def test_a_module_that_is_compiled_itself():
    def build():
        compiled = nn.Module()
        compiled._orig_mod = Net()
        return compiled

    for checkpoint in (WEIGHTS, prefixed("_orig_mod."), prefixed("module.")):
        assert Task(total, build=build).network(checkpoint)._orig_mod.first.weight.equal(torch.eye(3))


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (
            {**prefixed("model."), **prefixed("ema.")},
            "its names fit with each of the prefixes 'model.', 'ema.'; save the right network alone",
        ),
        (
            {**prefixed("model."), "model.extra": torch.ones(1), "other": torch.ones(1)},
            "without 'model.' 3 of its 5 names fit; unexpected extra; register them as buffers",
        ),
        ({"weight": torch.eye(3)}, "with 'first.' before them 1 of its 1 names fit; missing count$"),
        ({"weight": torch.eye(3), "count": torch.tensor(5)}, "missing first.weight; unexpected weight$"),
    ],
)
def test_names_that_fit_in_no_one_way_say_how_most_would(checkpoint, words):
    with pytest.raises(InputError, match=f"model: the checkpoint does not fit the module: {words}"):
        Task(total, build=Net).network(checkpoint)


def test_a_base_model_without_its_head_says_how_many_names_fit_with_a_prefix():
    head = nn.Sequential()
    head.bert, head.classifier = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Linear(3, 2)
    words = r"with 'bert\.' before them 4 of its 4 names fit; missing classifier\.weight, classifier\.bias$"
    with pytest.raises(InputError, match=words):
        Task(total, build=lambda: head).network(head.bert.state_dict())


def test_a_module_with_a_wrapper_that_the_checkpoint_lacks_says_which_part_fits():
    outer = nn.Module()
    outer.net = nn.Linear(3, 3)
    words = r"with 'net\.' before them 2 of its 2 names fit; let the function return only the part 'net' of its module$"
    with pytest.raises(InputError, match=words):
        Task(total, build=lambda: outer).network(outer.net.state_dict())


class Inner(nn.Module):
    """A module whose own names begin like those of a wrapper."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(2, 2, bias=False)


def test_a_prefix_that_belongs_to_the_module_stays():
    weights = {"module.weight": torch.ones(2, 2)}
    assert Task(total, build=Inner).naming(weights).prefix == ""
    assert Task(total, build=Inner).loss(weights) == 4
    assert Task(total, build=Inner).naming({"module.module.weight": torch.ones(2, 2)}).prefix == "module."


@pytest.mark.parametrize("names", [{"module.other": 1}, {"module.first.weight": 1, "count": 1}, {}])
def test_names_that_fit_neither_way_are_an_error_as_they_are(names):
    weights = dict.fromkeys(names, torch.eye(3))
    task = Task(total, build=Net)
    assert task.naming(weights).prefix == ""
    if weights:
        with pytest.raises(InputError, match=r"does not fit the module: .*unexpected module\."):
            task.loss(weights)


def test_a_dict_of_tensors_keeps_its_names():
    assert Task(total).naming(prefixed("module.")).prefix == ""
    assert Task(lambda network: float("module.count" in network)).loss(prefixed("module.")) == 1


# --- scripts and packages


def test_a_module_that_parses_a_command_line_finds_none(workplace, monkeypatch):
    (workplace / "script.py").write_text(
        "import argparse, sys\nargs = argparse.ArgumentParser().parse_args()\nSEEN = list(sys.argv)\ndef loss(w): return 2.0\n"
    )
    argv = ["nncomplexity", "measure", "model.pt", "--eps", "0.1"]
    monkeypatch.setattr(sys, "argv", argv)
    assert find_function("script:loss", "--loss-fn")({}) == 2.0
    assert sys.modules["script"].SEEN == ["script.py"]
    assert sys.argv is argv


def test_so_does_a_build(workplace, monkeypatch):
    (workplace / "building.py").write_text(
        "import argparse, torch\n"
        "def build():\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--width', type=int, default=3)\n"
        "    return torch.nn.Linear(parser.parse_args().width, 1)\n"
    )
    monkeypatch.setattr(sys, "argv", ["nncomplexity", "measure", "--width", "5"])
    task = Task(total, build=find_function("building:build", "--model"))
    assert task.network({"weight": torch.ones(1, 3), "bias": torch.ones(1)}).in_features == 3


def test_a_script_that_wants_arguments_is_told_to_keep_them_for_when_it_is_run(workplace, monkeypatch, capsys):
    (workplace / "wanting.py").write_text(
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--data', required=True)\nparser.parse_args()\n"
    )
    monkeypatch.setattr(sys, "argv", ["nncomplexity", "measure", "model.pt"])
    words = (
        r"--loss-fn: import wanting raised SystemExit: 2 \(wanting.py, line 4\); it ends the program when it is imported: "
        r'.* parse_args\(\), below if __name__ == "__main__":'
    )
    with pytest.raises(InputError, match=words):
        find_function("wanting:loss", "--loss-fn")
    assert "measure model.pt" not in capsys.readouterr().err


@pytest.mark.parametrize("packaged", [True, False])
def test_a_file_with_relative_imports_is_imported_as_part_of_its_package(workplace, packaged):
    folder = workplace / f"deep{packaged}" / "inner"
    folder.mkdir(parents=True)
    if packaged:
        (folder / "__init__.py").touch()
        (folder.parent / "__init__.py").touch()
    (folder / "data.py").write_text("def loss(w): return 6.0")
    (folder / "task.py").write_text("from ..inner.data import loss")
    name = f"deep{packaged}"
    assert find_function(f"{name}/inner/task.py:loss", "--loss-fn")({}) == 6.0
    assert sys.modules[f"{name}.inner.task"].loss is find_function(f"{name}.inner.task:loss", "--loss-fn")


def test_a_relative_import_without_a_package_is_told_how_to_have_one(workplace):
    (workplace / "lonely.py").write_text("from .data import loss")
    words = (
        r"import lonely raised ImportError: attempted relative import .*; name it as part of its package, such as package.module:"
    )
    for spec in ("lonely:loss", "lonely.py:loss"):
        with pytest.raises(InputError, match=words):
            find_function(spec, "--loss-fn")


# --- functions and their networks


def test_each_set_of_weights_has_a_module_of_its_own():
    builds = []

    class Remembering(nn.Linear):
        def __init__(self):
            super().__init__(3, 1, bias=False)
            builds.append(self)
            self.seen = None

        def total(self):
            self.seen = self.weight.sum() if self.seen is None else self.seen
            return self.seen.detach()

    task = Task(Remembering.total, build=Remembering)
    first, second = ({"weight": torch.full((1, 3), value)} for value in (1.0, 2.0))
    network = task.network(first)
    assert [task.loss(weights) for weights in (first, second, first)] == [3, 6, 3]
    assert network.seen is None
    assert network.weight.tolist() == [[1, 1, 1]]
    assert len(builds) == 1


def test_where_it_cannot_be_copied_it_is_built_again_with_the_same_random_numbers():
    class Uncopiable(nn.Linear):
        def __init__(self):
            super().__init__(3, 1, bias=False)
            self.table = np.random.rand() + float(torch.rand(()))

        def __deepcopy__(self, memo):
            raise TypeError("one only")

    task = Task(lambda network: network.table, build=Uncopiable)
    weights = {"weight": torch.ones(1, 3)}
    assert task.network(weights) is not task.network(weights)
    assert task.loss(weights) == task.loss(weights)


def test_a_risk_may_take_derivatives_and_draws_the_same_each_time():
    def slope(network):
        x = torch.ones(2, 3, requires_grad=True)
        return torch.autograd.grad(x.sum(), x)[0].mean() * torch.rand(())

    def of_outputs(network):
        x = torch.ones(2, 3, requires_grad=True)
        return torch.autograd.grad(network.first(x).sum(), x)[0].mean().abs() * torch.rand(())

    for function in (slope, of_outputs):
        task = Task(total, build=Net, risk_fn=function)
        found = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(task.risk(WEIGHTS))
        assert found[0] == found[1] > 0


# --- adapters


class Adapted(nn.Module):
    """A linear layer with low-rank factors, named as peft names them within its wrapper."""

    def __init__(self, adapters=("default",), saved=False):
        super().__init__()
        inner = nn.Module()
        inner.fc = nn.Module()
        inner.fc.base_layer = nn.Linear(4, 3, bias=False)
        inner.fc.lora_A = nn.ModuleDict({name: nn.Linear(4, 2, bias=False) for name in adapters})
        inner.fc.lora_B = nn.ModuleDict({name: nn.Linear(2, 3, bias=False) for name in adapters})
        if saved:
            inner.head = nn.Module()
            inner.head.original_module = nn.Linear(3, 3)
            inner.head.modules_to_save = nn.ModuleDict({name: nn.Linear(3, 3) for name in adapters})
        self.base_model = nn.Module()
        self.base_model.model = inner

    def forward(self, x):
        fc = self.base_model.model.fc
        return fc.base_layer(x) + fc.lora_B["default"](fc.lora_A["default"](x))


ADAPTER = {
    "base_model.model.fc.lora_A.weight": torch.randn(2, 4, generator=torch.Generator().manual_seed(0)),
    "base_model.model.fc.lora_B.weight": torch.randn(3, 2, generator=torch.Generator().manual_seed(1)),
}


def test_an_adapter_is_loaded_by_the_names_of_its_file_and_measured_alone():
    def build():
        torch.manual_seed(3)
        return Adapted()

    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(2))

    def distance(network):
        return network(x).square().mean()

    task = Task(distance, build=build)
    base = build().base_model.model.fc.base_layer.weight.detach()
    network = task.network(ADAPTER)
    assert {name for spec in architecture_of(network).tensors for name in spec.names} == set(ADAPTER)
    assert task.naming(ADAPTER).note("it") == (
        "used the names as those of the adapter 'default' of it; all other tensors are part of the architecture"
    )
    A, B = ADAPTER.values()
    assert task.loss(ADAPTER) == pytest.approx(float((x @ (base + B @ A).T).square().mean()), rel=1e-6)
    report = estimate(network, distance, 0.1, budget=30)
    assert set(report.coarse_weights()) == set(ADAPTER)
    assert report.subject.parameters == 14
    assert "base_model.model.fc.base_layer.weight" in report.subject.left_out
    assert task.loss(report.coarse_weights()) == pytest.approx(report.coarse_loss, rel=1e-6)


@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_what_an_adapter_saves_whole_is_part_of_it(prefix):
    """Networks with an adapter but without peft's wrapper don't have the prefix of its files."""
    names = [name.removeprefix("base_model.model.") for name in Adapted(saved=True).state_dict()]
    found = adapter_naming(
        [f"{prefix}{name}" for name in ("fc.lora_A.weight", "fc.lora_B.weight", "head.weight", "head.bias")],
        [[name] for name in names],
    )
    assert found.names[f"{prefix}head.weight"] == "head.modules_to_save.default.weight"


@pytest.mark.parametrize(
    ("adapters", "names"),
    [
        (("default",), [*ADAPTER][:1]),  # one of its tensors is missing
        (("default", "other"), [*ADAPTER]),  # it isn't clear which adapter they belong to
        (("default",), [*ADAPTER, "base_model.model.fc.lora_C.weight"]),
    ],
)
def test_names_that_are_no_one_adapter_s_are_refused(adapters, names):
    weights = {name: ADAPTER.get(name, torch.ones(1)) for name in names}
    with pytest.raises(InputError, match="model: the checkpoint does not fit the module"):
        Task(total, build=lambda: Adapted(adapters)).network(weights)


def test_all_of_a_network_with_an_adapter_is_loaded_as_any_network():
    model = Adapted()
    assert Task(total, build=Adapted).naming(model.state_dict()).adapter == ""
    assert Task(total, build=Adapted).loss(model.state_dict()) == pytest.approx(total(model).item(), rel=1e-6)
