"""`nncomplexity curve` as its users see it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from nncomplexity import load
from nncomplexity.cli import main
from nncomplexity.cli.options import DONE, NOT_WITHIN, WRONG_CALL

TASK = """
import torch
from torch.nn.functional import cross_entropy

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(64, 6, generator=generator)
labels = inputs[:, :3].argmax(1)

def loss(weights):
    return cross_entropy(inputs @ weights["weight"].T, labels)

def negative(weights):
    return -weights["weight"].square().mean()

def just_positive(weights):  # of the original alone
    return 0.1 if len(weights["weight"].unique()) == 18 and weights["weight"].abs().max() > 3.03 else -0.1

def error(weights):
    return ((inputs @ weights["weight"].T).argmax(1) != labels).double().mean()
"""
CURVE = ["curve", "model.safetensors", "--loss-fn", "curvetask:loss", "--budget", "20"]


@pytest.fixture
def run(workplace, capsys):
    (workplace / "curvetask.py").write_text(TASK)
    weights = torch.zeros(3, 6)
    weights[:, :3] = 3 * torch.eye(3)
    save_file({"weight": weights + 0.05 * torch.randn(3, 6, generator=torch.Generator().manual_seed(1))}, "model.safetensors")

    def call(*argv):
        code = main(argv)
        return code, *capsys.readouterr()

    return call


def test_a_table_a_document_and_files(run, tmp_path):
    code, out, err = run(
        *(*CURVE, "--grid", "0.01:1:5", "--risk-fn", "curvetask:error", "--n", "64"),
        *("--save", "m_{eps}.coarse", "--save-best", "best.coarse", "--json", "curve.json"),
    )
    assert (code, err) == (DONE, "")
    document = json.loads((tmp_path / "curve.json").read_text())
    eps = [result["eps"] for result in document["results"]]
    assert eps == pytest.approx([1, 0.3162, 0.1, 0.03162, 0.01])
    for result in document["results"]:
        assert f"{result['bits']:,}" in out
        assert result["file_bits"] == 8 * (tmp_path / result["file"]).stat().st_size
        assert result["bound"]["value"] <= 1
    curve = document["curve"]
    assert set(curve) == {"hull", "fits", "best_fit", "mdl", "best_bound", "evaluations", "seconds", "cpu_seconds"}
    assert curve["evaluations"] <= 5 * 20
    assert f"ε* = {curve['mdl']['eps']:g}" in out
    assert f"Best bound, at ε = {curve['best_bound']['eps']:g}" in out
    (of_best,) = {result["file"] for result in document["results"] if result["eps"] == curve["mdl"]["eps"]}
    assert (tmp_path / "best.coarse").read_bytes() == (tmp_path / of_best).read_bytes()
    assert load("best.coarse")["weight"].shape == (3, 6)
    assert "Written: m_1.coarse" in out


def test_json_to_standard_output(run):
    code, out, _ = run(*CURVE, "--eps", "1", "--eps", "0.1", "--eps", "0.01", "--json", "-")
    assert code == DONE
    assert [result["eps"] for result in json.loads(out)["results"]] == [1, 0.1, 0.01]


def test_the_picture_and_the_page_take_it(run, tmp_path):
    run(*CURVE, "--grid", "0.01:1:4", "--json", "curve.json")
    assert run("plot", "curve.json", "--out", "curve.svg")[0] == DONE
    assert run("report", "curve.json", "--out", "curve.html")[0] == DONE
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_relative_to_itself_it_costs_nothing(run):
    save_file(load_file("model.safetensors"), "base.safetensors")
    code, out, _ = run(*CURVE, "--grid", "0.01:1:4", "--relative-to", "base.safetensors", "--json", "-")
    assert code == DONE
    assert {result["bits"] for result in json.loads(out)["results"]} == {0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--eps", "1", "--grid", "0.1:1:3"], "--grid: expected only this or --eps, got both; leave one out"),
        (
            ["--grid", "1:0.1:3"],
            "--grid: expected LOW:HIGH:POINTS with 0 < LOW < HIGH and 2 to 1000 points, such as 0.001:1:12, got",
        ),
        (["--grid", "0.1:1"], "--grid: expected LOW:HIGH:POINTS"),
        (["--grid", "0.1:1:1"], "--grid: expected LOW:HIGH:POINTS"),
        (["--save-best", "best.coarse"], "--save-best: it needs --n, the number of examples for the description length; add --n N"),
        (["--risk-fn", "curvetask:error"], "--n: expected the number of training examples"),
        (["--save", "one.coarse"], "--save: with several --eps, expected {eps} in the name"),
        (["--eps", "-1"], "--eps: expected a finite number of at least 0"),
        (["--json", "nowhere/curve.json"], "nowhere/curve.json: cannot write there"),
        (["--n", "5", "--save-best", "same", "--json", "same"], "same: it would overwrite another file of this call"),
        (["--n", "5", "--save", "m_{eps}", "--save-best", "m_0.1"], "m_0.1: it would overwrite another file of this call"),
    ],
)
def test_a_wrong_call_is_one_line(run, options, words):
    code, out, err = run(*CURVE, *options)
    assert (code, out) == (WRONG_CALL, "")
    assert words in err
    assert err.count("\n") == 1


def test_an_eps_that_is_typed_twice_has_one_file(run):
    code, out, _ = run(*CURVE, "--eps", "1", "--eps", "0.1", "--eps", "1", "--save", "m_{eps}.coarse")
    assert code == DONE
    assert "Written: m_1.coarse, m_0.1.coarse" in out


def test_the_best_file_can_be_verified(run):
    argv = [*CURVE, "--grid", "0.01:1:5", "--n", "64"]
    assert run(*argv, "--save-best", "best.coarse", "--json", "curve.json")[0] == DONE
    code, out, err = run("verify", "best.coarse", "--loss-fn", "curvetask:loss", "--claims", "curve.json")
    assert (code, err) == (DONE, "")
    assert "reported bits" in out
    assert "claims hold." in out
    run(*argv, "--save", "m_{eps}.coarse", "--json", "curve.json")
    assert run("verify", "m_1.coarse", "--loss-fn", "curvetask:loss", "--claims", "curve.json")[0] == DONE
    assert run("verify", "best.coarse", "--loss-fn", "curvetask:loss", "--claims", "curve.json")[0] == WRONG_CALL


def test_a_negative_loss_has_no_best_file(run, tmp_path):
    argv = ["curve", "model.safetensors", "--loss-fn", "curvetask:negative", "--budget", "20", "--grid", "0.01:1:4"]
    code, out, err = run(*argv, "--n", "5", "--save-best", "best.coarse", "--json", "curve.json")
    assert (code, out) == (WRONG_CALL, "")  # before the search
    assert "the loss is negative" in err
    assert not (tmp_path / "curve.json").exists()
    assert run(*argv, "--n", "5")[0] == DONE


def test_what_was_found_is_written_where_no_file_is_the_best(run, tmp_path):
    argv = ["curve", "model.safetensors", "--loss-fn", "curvetask:just_positive", "--budget", "20", "--eps", "0.5"]
    nats = ("--n", "5", "--loss-unit", "nats")
    code, out, err = run(*argv, *nats, "--save-best", "best.coarse", "--json", "curve.json")
    assert code == WRONG_CALL
    assert "the loss is negative" in err
    assert "distortion" in out
    assert json.loads((tmp_path / "curve.json").read_text())["curve"]["mdl"] is None
    assert not (tmp_path / "best.coarse").exists()


def test_lossless_answers_have_their_exit_code(run):
    code, out, _ = run(*CURVE, "--eps", "1e-12", "--eps", "1e-13", "--eps", "1e-14")
    assert code == NOT_WITHIN
    assert "* nothing within ε was smaller than the lossless file" in out
