"""The command line as its users see it: figures on standard output, one line on standard error, and the exit codes."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nncomplexity import __version__, load
from nncomplexity.cli import main
from tests import training_run as training

ROOT = Path(__file__).parents[2]
QUICK = ["--method", "quantize", "--budget", "20"]
MEASURE = ["measure", "model.safetensors", "--loss-fn", "mytask:loss", *QUICK]

TASK = f"""{training.TASK}
calls = []

def exact(network):
    calls.append(float(network["weight"].sum()))
    return 0.0 if calls[-1] == calls[0] else 1e9

def interrupting(network):
    calls.append(1)
    if len(calls) > 3:
        raise KeyboardInterrupt
    return loss(network)

def sleeping(network):
    import time
    print("asleep", flush=True)
    time.sleep(600)

def loud(network):
    import os, subprocess, sys
    subprocess.run(["echo", "a program"], check=True)
    os.write(1, b"a descriptor\\n")
    print("the stream that was", file=sys.__stdout__)
    print("a print")
    return loss(network)

def moving(network):
    import os
    if os.path.isdir("empty"):
        os.chdir("empty")
    return error(network)

def negative(network): return loss(network) - 10
def undecided(network):
    if calls:
        raise ValueError("only once")
    calls.append(1)
    return 0.5

def raising(network): raise RuntimeError("no such layer\\nand more")
def vector(network): return torch.ones(3)
def nan(network): return float("nan")
def infinite(network): return torch.tensor(float("inf"))
def text(network): return "0.5"
def risky(network): return 1.5
number = 3
"""


@pytest.fixture
def folder(workplace):
    """The current folder, with a trained classifier and its task module."""
    Path("mytask.py").write_text(TASK)
    Path("broken.py").write_text("import absent_library")
    generator = torch.Generator().manual_seed(1)
    weights = {
        "weight": 6 * torch.eye(3, 6) + 0.1 * torch.randn(3, 6, generator=generator),
        "bias": torch.tensor([0.1, -0.07, 0.02]),
    }
    save_file(weights, "model.safetensors")
    average = {name: value.clone() for name, value in weights.items()}
    torch.save({"epoch": 3, "model": weights, "ema": average, "optimizer": {"state": {}, "param_groups": []}}, "last.pt")
    save_file({**weights, "bias": torch.tensor([0.0, float("nan"), 0.0])}, "nan.safetensors")
    Path("four.safetensors").write_bytes(  # safetensors can't write tensors of 4-bit floats
        b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F4","shape":[4,4],"data_offsets":[0,8]}}'.ljust(64) + bytes(8)
    )
    torch.save({"w": torch.zeros(1).expand(10**12)}, "expanded.pt")
    save_file({**weights, "other": torch.ones(2)}, "other.safetensors")
    save_file({**weights, "weight": weights["weight"] + torch.outer(torch.ones(3), torch.arange(6.0))}, "tuned.safetensors")
    Path("empty").mkdir()
    Path("folder").mkdir()
    save_file(weights, "folder/model.safetensors")
    Path("text.safetensors").write_text("no tensors in here")
    Path("cut.safetensors").write_bytes(Path("model.safetensors").read_bytes()[:-4])
    return workplace


@pytest.fixture
def run(request, capsys):
    """Run a command line in the folder. Returns its exit code, standard output and standard error."""
    request.getfixturevalue("folder")

    def run(*argv):
        code = main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


measured: dict[str, bytes] = {}


@pytest.fixture
def coarse(run):
    """model.coarse and report.json, which `measure` wrote once for all tests."""
    names = ("model.coarse", "report.json")
    if not measured:
        assert run(*MEASURE, "--eps", "0.1", "--save", names[0], "--json", names[1])[0] == 0
        measured.update({name: Path(name).read_bytes() for name in names})
    for name in names:
        Path(name).write_bytes(measured[name])
    return Path(names[0])


def loss_of(tensors):
    """The task's loss, written a second time."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    logits = inputs @ tensors["weight"].T + tensors["bias"]
    return float(-logits.log_softmax(1)[torch.arange(64), inputs[:, :3].argmax(1)].mean())


# --- measure


def test_measure_prints_a_table_and_nothing_else(run):
    code, out, err = run(*MEASURE, "--eps", "0.1", "--eps", "0.01", "--risk-fn", "mytask:error", "--n", "64")
    assert code == 0
    assert set(err.splitlines()) <= {"a loss was asked for"}
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "model.safetensors: 21 parameters, 84 bytes raw" in out
    for word in (
        "ε = 0.1",
        "ε = 0.01",
        "of raw",
        "of bzip2",
        "loss after",
        "distortion",
        "weight",
        "3×6",
        "acuous: with probability 0.95",
    ):
        assert word in out
    assert "Description length (MDL):" in out
    assert re.search(r"The least description length is at ε = 0\.\d+\.", out)
    assert re.search(r"The paper's recipe: \d+ bytes\.", " ".join(out.split()))


def test_the_report_is_as_documented_and_true(run):
    extra = ("--risk-fn", "mytask:error", "--n", "64", "--delta", "0.1", "--save", "m_{eps}.coarse", "--json", "report.json")
    assert run(*MEASURE, "--eps", "1e-1", "--eps", "0.01", *extra)[0] == 0
    report = json.loads(Path("report.json").read_text())
    original = load_file("model.safetensors")
    assert {key: report[key] for key in ("schema", "checkpoint", "parameters", "raw_bits")} == {
        **{"schema": 1, "checkpoint": "model.safetensors", "parameters": 21, "raw_bits": 32 * 21}
    }
    assert re.fullmatch("[0-9a-f]{64}", report["sha256"])
    assert report["lossless_bits"]["bzip2"] > 0
    assert report["loss"] == pytest.approx(loss_of(original), rel=1e-5)
    assert (report["version"], report["loss_fn"], report["seed"], report["budget"]) == (__version__, "mytask:loss", 0, 20)
    assert [result["file"] for result in report["results"]] == ["m_1e-1.coarse", "m_0.01.coarse"]
    for result, eps in zip(report["results"], (0.1, 0.01), strict=True):
        decoded = load(result["file"])
        assert (result["eps"], result["method"], result["within"]) == (eps, "quantize", True)
        assert result["file_bits"] == 8 * Path(result["file"]).stat().st_size
        assert sum(layer["bits"] for layer in result["layers"]) + result["shared_bits"] == pytest.approx(result["bits"])
        assert result["coarse_loss"] == pytest.approx(loss_of(decoded), rel=1e-5)
        assert result["distortion"] == pytest.approx(abs(loss_of(decoded) - loss_of(original)), rel=1e-4, abs=1e-7)
        assert result["distortion"] <= eps
        assert result["paper_bytes"] > 0
        assert {layer["name"]: tuple(layer["shape"]) for layer in result["layers"]} == {"weight": (3, 6), "bias": (3,)}
        bound = result["bound"]
        assert (bound["n"], bound["delta"], bound["kind"]) == (64, 0.1, "kl")
        assert bound["risk"] <= bound["value"] <= 1
        length = result["description_length"]
        assert length["total_bits"] == pytest.approx(result["bits"] + 64 * result["coarse_loss"] / 0.6931471805599453)


def test_json_on_standard_output_stands_alone(run):
    code, out, _ = run(*MEASURE, "--eps", "0.1", "--json", "-")
    result = json.loads(out)["results"][0]
    assert code == 0
    assert (result["file"], result["bound"], result["description_length"]) == (None, None, None)


@pytest.mark.usefixtures("folder")
def test_as_a_program_what_a_loss_prints_by_any_way_stays_off_standard_output():
    done = subprocess.run(
        program("measure", "model.safetensors", "--loss-fn", "mytask:loud", *QUICK, "--eps", "0.1", "--json", "-"),
        *(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["distortion"] <= 0.1
    assert {"a program", "a descriptor", "the stream that was", "a print"} <= set(done.stderr.splitlines())


def test_a_loss_that_changes_the_folder_does_not_move_the_outputs(run, folder):
    argv = ["measure", "model.safetensors", "--loss-fn", "mytask:moving", "--risk-fn", "mytask:moving", "--n", "64", *QUICK]
    code, out, _ = run(*argv, "--eps", "0.1", "--save", "model.coarse", "--json", "report.json")
    assert (code, out.splitlines()[-1]) == (0, "Written: model.coarse, report.json")
    moved = ["--loss-fn", "mytask:moving"]
    assert run("verify", "model.coarse", *moved, "--claims", "report.json", "--json", "found.json")[0] == 0
    argv = ["curve", "model.safetensors", *moved, *QUICK, "--eps", "1", "--n", "64", "--save-best", "best.coarse"]
    argv += ["--loss-unit", "nats"]
    assert run(*argv, "--save", "c.coarse", "--json", "curve.json")[0] == 0
    argv = ["track", "model.safetensors", *moved, *QUICK, "--eps", "1", "--constant", "--out", "results.jsonl"]
    assert run(*argv)[0] == 0
    names = ("model.coarse", "report.json", "found.json", "best.coarse", "c.coarse", "curve.json", "results.jsonl")
    assert [name for name in names if not (folder / name).is_file()] == []
    assert list((folder / "empty").iterdir()) == []


def test_a_tensor_name_that_a_terminal_would_act_on_is_escaped(run):
    save_file({**load_file("model.safetensors"), "\x1b[2Jother": torch.ones(2), "b\x9b": torch.ones(2)}, "model.safetensors")
    code, out, err = run(*MEASURE, "--eps", "0.1")
    assert code == 0
    assert r"\x1b[2Jother" in out
    assert not {"\x1b", "\x9b"} & {*out, *err}
    _, out, err = run(*MEASURE, "--eps", "0.1", "--model", "mytask:build")
    assert r"\x1b[2Jother" in err
    assert not {"\x1b", "\x9b"} & {*out, *err}


def test_links_in_a_circle_are_a_checkpoint_that_cannot_be_read(run):
    Path("loop").symlink_to("loop")
    options = ["--loss-fn", "mytask:loss", *QUICK, "--eps", "1"]
    code, out, err = run("measure", "loop", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nncomplexity: loop: cannot read it (Too many levels of symbolic links)")
    code, out, _ = run("track", "loop", "model.safetensors", *options, "--out", "results.jsonl")
    assert code == 1
    assert "loop: cannot read it (Too many levels of symbolic links)" in " ".join(out.split())


def test_a_tensor_that_safetensors_has_no_name_for_is_refused(run):
    torch.save({**load_file("model.safetensors"), "__metadata__": torch.ones(2)}, "model.pt")
    assert run("measure", "model.pt", *MEASURE[2:], "--eps", "0.1", "--save", "model.coarse")[0] == 0
    code, out, err = run("decompress", "model.coarse", "--out", "out.safetensors")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no room for a tensor named '__metadata__'" in err
    assert not Path("out.safetensors").exists()


def test_what_is_saved_is_said(run):
    _, out, _ = run(*MEASURE, "--eps", "0.1", "--save", "model.coarse", "--json", "report.json")
    assert out.splitlines()[-1] == "Written: model.coarse, report.json"


def test_with_build_the_loss_gets_the_module(run):
    _, mapping, _ = run(*MEASURE, "--eps", "0.1", "--json", "-")
    code, module, _ = run(
        *MEASURE, "--eps", "0.1", "--json", "-", "--model", "mytask:build", "--risk-fn", "mytask:error", "--n", "64"
    )
    assert code == 0
    assert json.loads(module)["results"][0]["coarse_loss"] <= 0.1 + json.loads(mapping)["loss"]
    assert json.loads(module)["loss"] == pytest.approx(json.loads(mapping)["loss"], rel=1e-5)


FOLDING = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear
x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
y = x[:, :4].argmax(1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.folded = nn.Parameter(torch.zeros(4, 4)), nn.Parameter(torch.zeros(4, 8)), None
    def forward(self, x):
        if self.folded is None:
            self.folded = self.a @ self.b
        return linear(x, self.folded)
    def _load_from_state_dict(self, *args):
        self.folded = None
        super()._load_from_state_dict(*args)
def build():
    net = Net().eval()
    net(x)
    return net
def loss(net):
    return cross_entropy(net(x), y)
"""


def test_a_module_that_keeps_what_it_computed_is_measured_and_verified_by_its_weights(run, folder):
    (folder / "folding.py").write_text(FOLDING)
    weights = {"a": 4 * torch.eye(4), "b": torch.eye(4, 8)}
    save_file(weights, "folding.safetensors")
    functions, few = ("--model", "folding:build", "--loss-fn", "folding:loss"), ("--eps", "0.05", "--budget", "60")
    code, out, _ = run("measure", "folding.safetensors", *functions, *few, "--save", "f.coarse", "--json", "f.json")
    assert code == 0, out
    found = json.loads(Path("f.json").read_text())["results"][0]
    assert found["bits"] > 40  # with all weights zero, the loss is ln 4
    assert not any("follow" in warning for warning in found["warnings"])
    assert run("verify", "f.coarse", *functions, "--against", "folding.safetensors", "--eps", "0.05")[0] == 0
    assert run("verify", "f.coarse", *functions, "--claims", "f.json")[0] == 0


def test_the_same_seed_gives_the_same_file(run):
    for name in ("one.coarse", "two.coarse"):
        assert run(*MEASURE, "--eps", "0.1", "--seed", "3", "--save", name)[0] == 0
    assert Path("one.coarse").read_bytes() == Path("two.coarse").read_bytes()


@pytest.mark.parametrize("options", [("--exclude", "bias"), ("--include", "weight"), ("--include", "w*", "--include", "?eight")])
def test_tensors_are_kept_by_name(run, options):
    arguments = ("--method", "tight", "--budget", "40", "--eps", "0.1", *options, "--save", "model.coarse", "--json", "-")
    code, out, _ = run("measure", "model.safetensors", "--loss-fn", "mytask:loss", *arguments)
    assert code == 0
    report = json.loads(out)
    assert [*(report["include"] or []), *(report["exclude"] or [])] == list(options[1::2])
    assert {layer["name"]: layer["form"] for layer in report["results"][0]["layers"]}["bias"] == "lossless"
    assert torch.equal(load("model.coarse")["bias"], load_file("model.safetensors")["bias"])


def test_the_default_method_beats_the_papers(run):
    common = ("measure", "model.safetensors", "--loss-fn", "mytask:loss", "--eps", "0.1", "--json", "-")
    bits = [json.loads(run(*common, *options)[1])["results"][0]["bits"] for options in (("--budget", "60"), QUICK)]
    assert bits[0] < bits[1]


def test_epsilon_zero_is_lossless(run):
    assert run(*MEASURE, "--eps", "0", "--save", "model.coarse")[0] == 0
    decoded, original = load("model.coarse"), load_file("model.safetensors")
    assert all(torch.equal(decoded[name], original[name]) for name in original)


def test_nothing_within_epsilon_ends_with_3_and_the_lossless_file(run):
    code, out, err = run(
        "measure", "model.safetensors", "--loss-fn", "mytask:exact", *QUICK, "--eps", "0.5", "--save", "model.coarse"
    )
    assert (code, err) == (3, "")
    assert "nothing within ε = 0.5 was smaller than the lossless file" in " ".join(out.split())
    assert torch.equal(load("model.coarse")["weight"], load_file("model.safetensors")["weight"])


def test_a_negative_loss_has_no_description_length(run):
    code, out, _ = run(
        "measure", "model.safetensors", "--loss-fn", "mytask:negative", *QUICK, "--eps", "0.1", "--n", "64", "--json", "-"
    )
    assert code == 0
    assert json.loads(out)["results"][0]["description_length"] is None


def test_progress_goes_to_a_terminal_only(run, monkeypatch):
    assert "evaluations" not in run(*MEASURE, "--eps", "0.1")[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    code, out, err = run(*MEASURE, "--eps", "0.1", "--json", "-")
    assert code == 0
    assert "evaluations" in err
    json.loads(out)


# --- decompress and verify


def test_decompress_writes_what_the_file_decodes_to(run, coarse):
    code, out, err = run("decompress", coarse, "--out", "coarse.safetensors")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"wrote coarse.safetensors: 2 tensors, 21 parameters, from [\d,]+ bits\n", out)
    decoded = load(coarse)
    assert all(torch.equal(tensor, decoded[name]) for name, tensor in load_file("coarse.safetensors").items())


def test_tied_weights_come_back_tied(run):
    Path("tied.py").write_text("def loss(w):\n    assert w['a'] is w['b']\n    return (w['a'] ** 2).mean()\n")
    save_file({"a": torch.randn(8, 8)}, "tied.safetensors", {"b": "a"})
    assert run("measure", "tied.safetensors", "--loss-fn", "tied:loss", *QUICK, "--eps", "0.1", "--save", "tied.coarse")[0] == 0
    assert run("decompress", "tied.coarse", "--out", "coarse.safetensors")[0] == 0
    assert run("verify", "tied.coarse", "--loss-fn", "tied:loss", "--against", "coarse.safetensors", "--eps", "0")[0] == 0
    assert load_file("coarse.safetensors").keys() == {"a"}


def test_verify_holds_for_what_measure_wrote(run, coarse):
    against = (
        "--against",
        "model.safetensors",
        "--eps",
        "0.1",
        "--claims",
        "report.json",
        "--risk-fn",
        "mytask:error",
        "--n",
        "64",
    )
    code, out, _ = run("verify", coarse, "--loss-fn", "mytask:loss", *against)
    assert code == 0
    assert "FAILS" not in out
    assert "claims hold." in out
    assert "acuous: with probability" in out


def test_verify_ends_with_1_where_a_claim_fails(run, coarse):
    report = json.loads(Path("report.json").read_text())
    eps = report["results"][0]["distortion"] / 2
    code, out, err = run(
        "verify", coarse, "--loss-fn", "mytask:loss", "--against", "model.safetensors", "--eps", eps, "--json", "-"
    )
    found = json.loads(out)
    assert (code, found["holds"]) == (1, False)
    assert set(err.splitlines()) <= {"a loss was asked for"}
    assert [claim["name"] for claim in found["claims"] if not claim["holds"]] == ["distortion"]
    assert (found["file"], found["bits"], found["bound"]) == ("model.coarse", report["results"][0]["bits"], None)
    report["results"][0]["bits"] -= 8
    Path("report.json").write_text(json.dumps(report))
    assert run("verify", coarse, "--loss-fn", "mytask:loss", "--claims", "report.json")[0] == 1


def test_verify_writes_its_findings(run, coarse):
    assert run("verify", coarse, "--loss-fn", "mytask:loss", "--json", "found.json")[0] == 0
    assert json.loads(Path("found.json").read_text())["holds"]


@pytest.mark.parametrize("part", range(0, 100, 4))
@pytest.mark.parametrize("command", ["decompress", "verify"])
def test_a_damaged_file_is_refused(run, coarse, command, part):
    content = bytearray(coarse.read_bytes())
    content[len(content) * part // 100] ^= 1 << part % 8
    coarse.write_bytes(content)
    code, out, err = run(
        command, coarse, *(("--out", "o.safetensors") if command == "decompress" else ("--loss-fn", "mytask:loss"))
    )
    assert (code, out) == (2, "")
    assert re.fullmatch(r"nncomplexity: model\.coarse: .*\.coarse.*\n", err)
    assert not Path("o.safetensors").exists()


def test_a_cut_file_is_refused_at_every_length(run, coarse):
    content = coarse.read_bytes()
    for length in range(0, len(content), 7):
        coarse.write_bytes(content[:length])
        code, _, err = run("decompress", coarse, "--out", "o.safetensors")
        assert code == 2
        assert re.fullmatch(r"nncomplexity: model\.coarse: (\.coarse file is cut|no \.coarse file).*\n", err)


def test_more_weights_than_the_limit_are_refused(run, coarse):
    code, _, err = run("decompress", coarse, "--out", "o.safetensors", "--limit", "83")
    assert code == 2
    assert "84 bytes of weights, above the limit of 83" in err


# --- checkpoints of every format


NOTE = "nncomplexity: last.pt: took the state dict under 'model', not the one under ema; --key names another\n"


def test_what_was_guessed_of_a_checkpoint_is_said(run):
    code, out, err = run("measure", "last.pt", *MEASURE[2:], "--eps", "0.1", "--json", "-")
    assert code == 0
    assert NOTE in err
    report = json.loads(out)
    assert (report["checkpoint"], report["key"], report["step"]) == ("last.pt", "model", 3)
    assert report["sha256"] == hashlib.sha256(Path("last.pt").read_bytes()).hexdigest()


def test_what_is_named_is_not_said(run):
    code, out, err = run("measure", "last.pt", "--key", "ema", *MEASURE[2:], "--eps", "0.1", "--json", "-")
    assert (code, json.loads(out)["key"]) == (0, "ema")
    assert "took" not in err


def test_every_format_measures_the_same(run):
    Path("plain").mkdir()
    weights = load_file("model.safetensors")
    torch.save(weights, "plain/pytorch_model.bin")
    shards = {name: f"{name}.safetensors" for name in weights}
    Path("sharded").mkdir()
    for name, shard in shards.items():
        save_file({name: weights[name]}, f"sharded/{shard}")
    Path("sharded/model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    found = {}
    for checkpoint in ("model.safetensors", "last.pt", "plain", "sharded", "sharded/model.safetensors.index.json"):
        code, out, _ = run("measure", checkpoint, *MEASURE[2:], "--eps", "0.1", "--json", "-")
        assert code == 0
        found[checkpoint] = (json.loads(out)["loss"], json.loads(out)["results"][0]["bits"])
    assert len(set(found.values())) == 1, found


def test_verify_takes_every_format(run, coarse):
    arguments = ("verify", coarse, "--loss-fn", "mytask:loss", "--eps", "0.1", "--against", "last.pt")
    code, out, err = run(*arguments)
    assert (code, NOTE in err) == (0, True), (out, err)
    code, _, err = run(*arguments, "--key", "ema")
    assert (code, "took" in err) == (0, False)


@pytest.mark.parametrize(
    ("prefix", "said"),
    [("module.", "'module.'"), ("_orig_mod.", "'_orig_mod.'"), ("module._orig_mod.", "'module.' and '_orig_mod.'")],
)
def test_the_prefix_of_a_wrapper_is_taken_off_for_a_module_and_said(run, prefix, said):
    torch.save({prefix + name: tensor for name, tensor in load_file("model.safetensors").items()}, "wrapped.pt")
    argv = ["measure", "wrapped.pt", *MEASURE[2:], "--eps", "0.1", "--json", "-"]
    code, out, err = run(*argv, "--model", "mytask:build")
    assert (code, [layer["name"] for layer in json.loads(out)["results"][0]["layers"]]) == (0, ["weight", "bias"])
    assert f"nncomplexity: wrapped.pt: removed {said} from the names, so that they fit the module of --model\n" in err
    code, _, err = run(*argv)
    assert (code, "KeyError: 'weight'" in err) == (2, True), "a dict of tensors keeps its names"


# --- wrong calls: exit code 2 and one line


def measuring(**changes):
    """The arguments of `measure`, with some of them replaced, left out (None) or added."""
    options = {
        "checkpoint": "model.safetensors",
        "loss-fn": "mytask:loss",
        "eps": "0.1",
        "method": "quantize",
        "budget": "20",
        **changes,
    }
    checkpoint = options.pop("checkpoint")
    given = [argument for name, value in options.items() if value is not None for argument in (f"--{name}", value)]
    return ["measure", *([checkpoint] if checkpoint else []), *given]


WRONG = [
    ([], "Missing command"),
    (["explode"], "No such command 'explode'"),
    (["measure", "--help-me"], "No such option"),  # versions of typer continue this message in different ways
    (measuring(checkpoint=None), "Missing argument 'CHECKPOINT'"),
    (measuring(eps=None), "Missing option '--eps'"),
    ([*measuring(), "more"], "unexpected extra argument"),
    (measuring(checkpoint="none.safetensors"), "none.safetensors: cannot read it (No such file or directory)"),
    (measuring(checkpoint="empty"), "empty: it is a folder without a checkpoint: it is empty; name a checkpoint"),
    (
        measuring(checkpoint="text.safetensors"),
        "text.safetensors: no checkpoint, but a text, 'no tensors in here'; name a .safetensors file",
    ),
    (measuring(key="model"), "key: expected none, because model.safetensors is a .safetensors file"),
    (
        measuring(checkpoint="last.pt", key="modle"),
        "key: expected a state dict under 'modle' in last.pt, got nothing; name one of model",
    ),
    (measuring(checkpoint="folder", save="folder/model.safetensors"), "it would overwrite another file of this call"),
    (measuring(checkpoint="cut.safetensors"), "cut or damaged"),
    (measuring(checkpoint="four.safetensors"), "expected tensors of dtypes that can be read, got F4 in w; convert"),
    (
        measuring(checkpoint="expanded.pt"),
        "expected 'w' to have memory for all its elements, got 1000000000000 elements expanded from 4 bytes",
    ),
    (measuring(checkpoint="nan.safetensors"), "'bias' holds 1 values that are NaN"),
    (
        measuring(checkpoint="other.safetensors", model="mytask:build"),
        "--model: the checkpoint does not fit the module: unexpected other",
    ),
    (measuring(**{"loss-fn": "mytask"}), "--loss-fn: expected MODULE:FUNCTION"),
    (measuring(**{"loss-fn": "absent:loss"}), "--loss-fn: no module 'absent'"),
    (measuring(**{"loss-fn": "mytask:absent"}), "has no 'absent'"),
    (measuring(**{"loss-fn": "mytask:number"}), "expected mytask:number to be a function, got int"),
    (
        measuring(**{"loss-fn": "broken:loss"}),
        "import broken raised ModuleNotFoundError: No module named 'absent_library' (broken.py, line 1)",
    ),
    (measuring(**{"loss-fn": "mytask:raising"}), "RuntimeError: no such layer"),
    (measuring(**{"loss-fn": "mytask:vector"}), "a tensor of shape (3,)"),
    (measuring(**{"loss-fn": "mytask:nan"}), "a finite loss of the original weights, got nan"),
    (measuring(**{"loss-fn": "mytask:infinite"}), "a finite loss of the original weights, got inf"),
    (measuring(**{"loss-fn": "mytask:text"}), "expected a float or a 0-d tensor, got str"),
    (measuring(model="mytask:number"), "expected mytask:number to be a function"),
    (measuring(model="mytask:loss"), "--model: loss raised TypeError"),
    (measuring(eps="-0.1"), "--eps: expected a finite number of at least 0, in the loss's own unit, got '-0.1'"),
    (measuring(eps="small"), "got 'small'"),
    (measuring(eps="nan"), "got 'nan'"),
    (measuring(eps="inf"), "got 'inf'"),
    (measuring(eps=""), "got ''"),
    (measuring(method="magic"), "method: expected one of tight, allocate, bayes, quantize, got 'magic'"),
    (measuring(codec="rar"), "codec: expected one of entropy, bzip2, xz, gzip, zstd, got 'rar'"),
    (measuring(budget="many"), "'--budget'"),
    (measuring(budget="0"), "'--budget'"),
    (measuring(seed="-1"), "'--seed'"),
    (measuring(exclude="wieght"), "exclude: no tensor's name matches 'wieght'; names near it: weight"),
    (measuring(device="abacus"), "device: expected a device of this machine"),
    (measuring(**{"risk-fn": "mytask:error"}), "--n: expected the number of training examples"),
    (measuring(**{"risk-fn": "mytask:risky", "n": "64"}), "--risk-fn: expected the share of wrong answers, in [0, 1], got 1.5"),
    (measuring(**{"risk-fn": "mytask:vector", "n": "64"}), "--risk-fn: expected a float or a 0-d tensor"),
    (measuring(n="0"), "'--n'"),
    # Versions of typer have different words before the value.
    (measuring(n="many"), "'many'"),
    ([*measuring(), "--seed=-1"], "-1"),
    (measuring(n="64", delta="1.5"), "delta: expected a failure probability strictly between 0 and 1"),
    (measuring(save="absent/model.coarse"), "absent/model.coarse: cannot write there (No such file or directory)"),
    (measuring(save="mytask.py/model.coarse"), "cannot write there (Not a directory)"),
    (measuring(save="x" * 300), "cannot write there (File name too long)"),
    (measuring(save="."), "it is a folder"),
    (measuring(json="absent/report.json"), "absent/report.json: cannot write there"),
    (measuring(save="model.safetensors"), "it would overwrite another file of this call"),
    (measuring(save="same", json="./same"), "it would overwrite another file of this call"),
    (measuring(save="same", json="same"), "same: it would overwrite another file of this call"),
    (measuring(save=""), "expected the name of a file to write, got ''; name one"),
    ([*measuring(save="model.coarse"), "--eps", "1"], "--save: with several --eps, expected {eps} in the name"),
    (["decompress", "none.coarse", "--out", "o.safetensors"], "none.coarse: cannot read it (No such file or directory)"),
    (["decompress", "model.safetensors", "--out", "o.safetensors"], "no .coarse file"),
    (["decompress", "model.safetensors"], "Missing option '--out'"),
    (["decompress", "model.safetensors", "--out", "model.safetensors"], "it would overwrite another file of this call"),
    (["verify", "none.coarse", "--loss-fn", "mytask:loss"], "none.coarse: cannot read it"),
    (["verify", "none.coarse", "--loss-fn", "mytask:loss", "--eps", "0.1"], "--eps: it needs --against CHECKPOINT"),
    (["verify", "none.coarse", "--loss-fn", "mytask:loss", "--key", "ema"], "--key: it needs --against CHECKPOINT"),
]


@pytest.mark.parametrize(("argv", "words"), WRONG, ids=[" ".join(argv)[-60:] or "nothing" for argv, _ in WRONG])
def test_a_wrong_call_ends_with_2_and_one_line(run, folder, argv, words):
    before = sorted(folder.iterdir())
    code, out, err = run(*argv)
    err = err.replace("a loss was asked for\n", "")
    assert (code, out) == (2, "")
    assert err.startswith("nncomplexity: ")
    assert words in err
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"save": "absent/model.coarse"}, "cannot write there"),
        ({"eps": "-1"}, "--eps"),
        ({"method": "magic"}, "method"),
        ({"codec": "rar"}, "codec"),
        ({"risk-fn": "mytask:error"}, "--n"),
        ({"risk-fn": "mytask:risky", "n": "64"}, "--risk-fn"),
    ],
)
def test_what_is_cheap_to_check_is_checked_before_a_loss_is_asked_for(run, changes, words):
    _, _, err = run(*measuring(**changes))
    assert "a loss was asked for" not in err
    assert words in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_regular_file_is_not_replaced(run):
    os.mkfifo("pipe")
    assert "pipe: it is not a regular file" in run(*measuring(json="pipe"))[2]
    assert Path("pipe").is_fifo()


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="needs a user whom permissions bind")
def test_a_folder_that_may_not_be_written_to(run):
    Path("locked").mkdir(mode=0o555)
    assert "cannot write there (Permission denied)" in run(*measuring(save="locked/model.coarse"))[2]


def test_a_file_that_cannot_be_written_after_all_still_gets_its_table(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nncomplexity.file.bitstream.os.fdopen", full)
    code, out, err = run(*MEASURE, "--eps", "0.1", "--save", "model.coarse")
    assert code == 2
    assert "ε = 0.1" in out
    assert "No space left on device" in err


def test_a_risk_that_fails_after_the_search_does_not_lose_its_results(run):
    code, out, err = run(*MEASURE, "--eps", "0.1", "--risk-fn", "mytask:undecided", "--n", "64", "--save", "model.coarse")
    assert code == 2
    assert "ε = 0.1" in out
    line = TASK.splitlines().index('        raise ValueError("only once")') + 1
    assert err.splitlines()[-1] == f"nncomplexity: --risk-fn: undecided raised ValueError: only once (mytask.py, line {line})"
    assert Path("model.coarse").exists()


def test_a_name_that_is_no_unicode_text_becomes_json(run):
    name = os.fsdecode(b"model\xff.coarse")
    assert run(*MEASURE, "--eps", "0.1", "--save", name, "--json", "report.json")[0] == 0
    assert json.loads(Path("report.json").read_bytes())["results"][0]["file"] == name


# --- interrupted, asked for help, and as a program


def test_an_interrupt_ends_with_130_and_leaves_nothing(run, folder):
    before = sorted(folder.iterdir())
    argv = ("measure", "model.safetensors", "--loss-fn", "mytask:interrupting", *QUICK, "--eps", "0.1", "--save", "model.coarse")
    code, out, err = run(*argv, "--json", "report.json")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "nncomplexity: interrupted"
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_help_and_version(run):
    assert run("--version") == (0, f"nncomplexity {__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    assert all(word in out for word in ("measure", "decompress", "verify", "--loss-fn mytask:loss", "130 interrupted"))
    for command in ("measure", "decompress", "verify"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"nncomplexity {command}" in out
    out = run("measure", "-h")[1]
    assert all(word in out for word in ("nats per example", "--risk-fn", "{eps}", "[default: tight]"))


def program(*argv):
    return [sys.executable, "-m", "nncomplexity", *argv]


def test_as_a_program_interrupted(folder):
    argv = program("measure", "model.safetensors", "--loss-fn", "mytask:sleeping", "--eps", "0.1", "--save", "model.coarse")
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr.readline() == "asleep\n"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert (running.returncode, out, err) == (130, "", "nncomplexity: interrupted\n")
    assert not list(folder.glob("*coarse*"))


@pytest.mark.parametrize(
    ("package", "argv"), [("typer", ["--version"]), ("torch", ["decompress", "no.coarse", "--out", "no.safetensors"])]
)
def test_the_console_script_interrupted_while_it_loads(tmp_path, package, argv):
    """The interrupt comes while `package` is imported, for the command line itself or for its command."""
    (tmp_path / f"{package}.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)")
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["nncomplexity"]
    module, function = found.split(":")
    # An installed script does this too: its own folder comes first in the path.
    path = [str(tmp_path), str(ROOT)]
    script = f"import sys; sys.path[:0] = {path!r}; from {module} import {function}; sys.exit({function}())"
    call = [sys.executable, "-c", script, *argv]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "nncomplexity: interrupted\n")
    if argv == ["--version"]:
        (tmp_path / f"{package}.py").unlink()
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"nncomplexity {__version__}\n", "")


@pytest.mark.usefixtures("folder")
def test_as_a_program_whose_reader_leaves():
    shell = f"{shlex.join(program(*MEASURE, '--eps', '0.1', '--save', 'model.coarse'))} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.stderr.replace("a loss was asked for\n", "") == ""
    assert done.returncode in (0, 141)
    assert Path("model.coarse").exists()


def commands_of(document):
    """The lines of a document's shell blocks. A line that ends with a backslash is joined with the next one."""
    blocks = re.findall(r"```sh\n(.*?)```", document, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("nncomplexity ")]


def test_the_commands_of_the_reference_run(run):
    commands = commands_of((Path(__file__).parents[2] / "docs" / "cli.md").read_text())
    assert len(commands) > 6
    for command in commands:
        # A few evaluations are enough to check the options.
        searches = re.match("nncomplexity (measure|curve|track) ", command) and "--budget" not in command
        argv = shlex.split(command)[1:] + (["--budget", "12"] if searches else [])
        code, _, err = run(*argv)
        assert code == 0, (command, err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.usefixtures("folder")
def test_a_standard_output_that_is_full_or_closed_is_no_traceback():
    command = shlex.join(program("measure", "model.safetensors", "--loss-fn", "mytask:loss", *QUICK, "--eps", "0.1"))
    full = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1] == "nncomplexity: standard output: cannot write there (No space left on device)"
    closed = subprocess.run(["bash", "-c", f"{command} --save model.coarse >&-"], capture_output=True, text=True, check=False)
    assert (closed.returncode, "Traceback" in closed.stderr) == (0, False)
    assert Path("model.coarse").exists()


def test_a_task_module_is_not_overwritten(run):
    before = Path("mytask.py").read_bytes()
    for option in ("--save", "--json"):
        code, _, err = run("measure", "model.safetensors", "--loss-fn", "mytask:loss", *QUICK, "--eps", "0.1", option, "mytask.py")
        assert (code, "mytask.py: it would overwrite another file of this call" in err) == (2, True)
    assert Path("mytask.py").read_bytes() == before


def test_decompressed_weights_are_not_written_under_a_wrong_name(run, coarse):
    code, _, err = run("decompress", "model.coarse", "--out", "weights.pt")
    assert (code, "--out: expected a name that ends in .safetensors, got weights.pt" in err) == (2, True)


def test_a_loss_may_be_named_by_its_file(run):
    assert run("measure", "model.safetensors", "--loss-fn", "./mytask.py:loss", *QUICK, "--eps", "0.1")[0] == 0
