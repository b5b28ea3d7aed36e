"""`--relative-to` and `--base` as their users see them: in one process and in several, with every kind of checkpoint."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nncomplexity.cli import main
from nncomplexity.network import base_of

TASK = """
import torch
from torch import nn
from torch.nn.functional import cross_entropy

inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
labels = inputs[:, :3].argmax(1)

def logits(network):
    return network(inputs) if isinstance(network, nn.Module) else inputs @ network["weight"].T + network["bias"]

def loss(network):
    return cross_entropy(logits(network), labels)

def error(network):
    return (logits(network).argmax(1) != labels).double().mean()

def build():
    return nn.Linear(6, 3)
"""
MEASURE = ["measure", "tuned.safetensors", "--loss-fn", "relativetask:loss", "--eps", "0.05", "--budget", "60"]
BASE = {
    "weight": torch.randn(3, 6, generator=torch.Generator().manual_seed(1)),
    "bias": torch.tensor([0.1, -0.07, 0.02]),
    "old": torch.ones(2),
}
TUNED = {"weight": BASE["weight"] + 3 * torch.eye(3, 6), "bias": BASE["bias"].clone()}


@pytest.fixture
def run(workplace, capsys):
    """Run a command line in a folder with a base and a fine-tuned network. Returns exit code, output and standard error."""
    Path("relativetask.py").write_text(TASK)
    save_file(BASE, "base.safetensors")
    save_file(TUNED, "tuned.safetensors")
    torch.save({"epoch": 3, "model": BASE, "ema": {name: -tensor for name, tensor in BASE.items()}}, "base.pt")
    torch.save({f"module.{name}": tensor for name, tensor in BASE.items()}, "wrapped.pt")
    save_file(BASE | {"bias": torch.zeros(3)}, "other.safetensors")
    Path("folder").mkdir()
    save_file(BASE, "folder/model.safetensors")

    def run(*argv):
        code = main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def measure(run, base="base.safetensors", *more):
    return run(*MEASURE, "--relative-to", base, "--save", "tuned.coarse", "--json", "report.json", *more)


def test_measure_says_what_it_is_relative_to(run):
    code, page, err = measure(run, "base.safetensors", "--risk-fn", "relativetask:error", "--n", "64")
    assert (code, err) == (0, "")
    digest = base_of(BASE).sha256
    page = " ".join(page.split())
    assert f"Relative to base.safetensors, whose bits are free (tensors' sha256 {digest[:12]}…)." in page
    assert "Only in the base, and not used: old." in page
    assert "The bound holds only if the base was made without the examples of the bound." in page
    assert "Not in the base in the same shape" not in page
    report = json.loads(Path("report.json").read_text())
    assert report["relative_to"] == {"path": "base.safetensors", "sha256": digest, "without_base": [], "unused": ["old"]}
    assert {layer["name"]: layer["form"] for layer in report["results"][0]["layers"]}["bias"] == "unchanged"
    assert max(map(len, page.splitlines())) > 0


@pytest.mark.parametrize("base", ["base.safetensors", "base.pt", "folder", "wrapped.pt"])
def test_one_digest_for_all_containers(run, base):
    code, _, err = measure(run, base)
    assert code == 0
    assert json.loads(Path("report.json").read_text())["relative_to"]["sha256"] == base_of(BASE).sha256
    notes = {
        "base.pt": "base.pt: took the state dict under 'model', not the one under ema; --relative-to-key names another",
        "wrapped.pt": "wrapped.pt: removed 'module.' from the names, so that they fit the network's",
    }
    assert notes.get(base, "") in err
    for other in ("base.safetensors", "base.pt", "folder", "wrapped.pt"):
        assert run("decompress", "tuned.coarse", "--base", other, "--out", "out.safetensors")[0] == 0


def test_the_state_dict_of_a_base_can_be_named(run):
    assert measure(run, "base.pt", "--relative-to-key", "ema")[0] == 0
    assert run("decompress", "tuned.coarse", "--base", "base.pt", "--base-key", "ema", "--out", "out.safetensors")[0] == 0
    code, _, err = run("decompress", "tuned.coarse", "--base", "base.pt", "--out", "out.safetensors")
    assert code == 2
    assert "--base-key names another" in err


def test_another_process_decodes_and_verifies(run):
    assert measure(run)[0] == 0
    report = json.loads(Path("report.json").read_text())
    decompress = ["decompress", "tuned.coarse", "--base", "base.pt", "--out", "decoded.safetensors"]
    verify = ["verify", "tuned.coarse", "--loss-fn", "relativetask:loss", "--base", "folder", "--against", "tuned.safetensors"]
    verify += ["--claims", "report.json", "--json", "found.json"]
    program = f"from nncomplexity.cli import main; assert main({decompress}) == 0; assert main({verify}) == 0"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import relativetask

    decoded = load_file("decoded.safetensors")
    assert relativetask.loss(decoded).item() == report["results"][0]["coarse_loss"]
    found = json.loads(Path("found.json").read_text())
    assert found["relative_to"] == {"path": "folder", "sha256": base_of(BASE).sha256}
    assert {claim["name"]: claim["holds"] for claim in found["claims"]}["reported base"]


def test_verify_fails_where_the_report_names_another_base(run):
    assert measure(run)[0] == 0
    report = json.loads(Path("report.json").read_text())
    Path("report.json").write_text(json.dumps(report | {"relative_to": None}))
    verify = ["verify", "tuned.coarse", "--loss-fn", "relativetask:loss", "--base", "base.safetensors", "--claims", "report.json"]
    code, page, _ = run(*verify)
    assert code == 1
    assert "1 of" in page
    assert "reported base" in page


def test_a_module_gets_the_weights_on_their_base(run):
    assert measure(run, "wrapped.pt", "--model", "relativetask:build")[0] == 0
    verify = ["verify", "tuned.coarse", "--loss-fn", "relativetask:loss", "--model", "relativetask:build", "--base", "base.pt"]
    code, page, _ = run(*verify, "--against", "tuned.safetensors", "--eps", "0.05", "--risk-fn", "relativetask:error", "--n", "64")
    assert code == 0
    assert "on the base" in " ".join(page.split())
    assert "The bound holds only if the base was made without" in " ".join(page.split())


def test_the_base_itself_is_within_and_takes_no_bits(run):
    save_file({name: BASE[name] for name in TUNED}, "tuned.safetensors")
    code, page, _ = measure(run)
    assert code == 0
    report = json.loads(Path("report.json").read_text())
    assert report["results"][0]["bits"] <= 8
    assert report["results"][0]["within"]
    assert "unchanged" in page


@pytest.mark.parametrize("command", [["decompress", "--out", "out.safetensors"], ["verify", "--loss-fn", "relativetask:loss"]])
def test_a_missing_a_wrong_and_a_needless_base(run, command):
    assert measure(run)[0] == 0
    right, wrong = (base_of(load_file(name)).sha256 for name in ("base.safetensors", "other.safetensors"))
    first, *rest = command
    code, out, err = run(first, "tuned.coarse", *rest)
    assert (code, out) == (2, "")
    wanted = f"nncomplexity: tuned.coarse: base: expected the tensors that the file is relative to, of sha256 {right}, got"
    assert err == f"{wanted} none; give it as base=, on the command line as --base CHECKPOINT\n"
    code, out, err = run(first, "tuned.coarse", *rest, "--base", "other.safetensors")
    assert (code, out) == (2, "")
    assert err == f"{wanted} those of {wrong} (other.safetensors); name the checkpoint that it was measured relative to\n"
    assert run(*MEASURE, "--save", "whole.coarse")[0] == 0
    code, out, err = run(first, "whole.coarse", *rest, "--base", "base.safetensors")
    assert code == 2
    assert "whole.coarse: base: expected none, as the file is relative to no base, got one (base.safetensors); leave it out" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--relative-to", "none.pt"], "none.pt"),
        (
            ["--relative-to-key", "ema"],
            "--relative-to-key: it needs --relative-to CHECKPOINT, because it names the state dict in that file",
        ),
        (["--relative-to", "base.safetensors", "--json", "base.safetensors"], "it would overwrite another file of this call"),
        (["--relative-to", "folder", "--json", "folder/model.safetensors"], "it would overwrite another file of this call"),
        (["--relative-to", "nan.pt"], "--relative-to: 'weight' holds 18 values that are NaN"),
        (
            ["--relative-to", "strange.pt"],
            "--relative-to: expected tensors of the model's names and shapes, such as bias, weight, got none",
        ),
    ],
)
def test_what_is_wrong_with_a_base_is_one_line(run, arguments, words):
    torch.save({"weight": torch.full((3, 6), float("nan"))}, "nan.pt")
    torch.save({"kernel": torch.ones(3, 6)}, "strange.pt")
    code, out, err = run(*MEASURE, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_curve_and_the_smallest_bound_say_what_a_base_must_be(run):
    found = ["--loss-fn", "relativetask:loss", "--risk-fn", "relativetask:error", "--n", "64", "--classes", "3"]
    options = ["tuned.safetensors", *found, "--relative-to", "base.safetensors", "--eps", "0.5", "--eps", "0.1", "--budget", "20"]
    for command, words in (
        ("curve", "The bound holds only if the base was made without the examples of the bound."),
        ("bound", "and the base was made without the training examples."),
    ):
        code, page, _ = run(command, *options)
        assert code == 0
        assert words in " ".join(page.split())
        code, page, _ = run(command, *(one for one in options if one not in ("--relative-to", "base.safetensors")))
        assert "the base was made" not in " ".join(page.split())


def test_a_training_relative_to_its_first_checkpoint(run):
    """The base has the prefix of a wrapper in its names, as the checkpoints may have."""
    for step, share in ((0, 0.0), (10, 1.0)):
        weights = {name: BASE[name] + share * (TUNED[name] - BASE[name]) for name in TUNED}
        save_file(weights, f"step_{step}.safetensors")
    track = ["track", "step_*.safetensors", "--loss-fn", "relativetask:loss", "--eps", "0.05", "--budget", "60"]
    options = [
        "--risk-fn",
        "relativetask:error",
        "--n",
        "64",
        "--relative-to",
        "wrapped.pt",
        "--time-limit",
        "1h",
        "--out",
        "rows.jsonl",
    ]
    code, out, err = run(*track, *options)
    assert code == 0
    assert "removed 'module.' from the names, so that they fit the network's" in err
    assert "The bound holds only if the base was made without the examples of the bound." in " ".join(out.split())
    first, last = (json.loads(line) for line in Path("rows.jsonl").read_text().splitlines())
    assert first["bits@0.05"] < 16 < last["bits@0.05"]
    assert (last["settings"]["time_limit"], bool(last["settings"]["relative_to"])) == (3600, True)
    assert run(*MEASURE, "--relative-to", "base.safetensors", "--json", "report.json")[0] == 0
    assert json.loads(Path("report.json").read_text())["results"][0]["bits"] == last["bits@0.05"]
    code, _, err = run(*track, "--out", "rows.jsonl")
    assert code == 2
    assert "rows were measured with" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--relative-to", "none.pt"], "none.pt: cannot read it"),
        (["--relative-to-key", "model"], "--relative-to-key: it needs --relative-to CHECKPOINT"),
        (["--time-limit", "soon"], "--time-limit: expected a time above 0"),
        (["--relative-to", "base.safetensors", "--out", "base.safetensors"], "it would overwrite another file of this call"),
    ],
)
def test_a_training_relative_to_nothing_that_can_be_read_is_one_line(run, options, words):
    call = ["track", "tuned.safetensors", "--loss-fn", "relativetask:loss", "--eps", "0.05", "--out", "rows.jsonl"]
    code, out, err = run(*call, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not Path("rows.jsonl").exists()


def test_a_followed_training_without_a_checkpoint_yet_takes_the_names_of_the_base(run):
    call = ["track", "later/*.safetensors", "--loss-fn", "relativetask:loss", "--eps", "0.05", "--out", "rows.jsonl"]
    waiting = ["--follow", "--poll", "0.01", "--idle-timeout", "0.05"]
    assert run(*call, "--relative-to", "base.safetensors", *waiting)[:2] == (0, "Written: rows.jsonl, 0 rows\n")
