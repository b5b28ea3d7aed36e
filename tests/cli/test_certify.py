"""`verify` checks from scratch what `certify` writes: it needs only the file, the functions and the original."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nncomplexity.cli import main
from tests.training_run import make_training

TASK = ("--loss-fn", "mytask:loss")
RISK = ("--risk-fn", "mytask:error", "--n", "64", "--classes", "3")
AGAINST = ("--against", "run/step_10.safetensors")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    make_training(workplace)

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), err

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = ("measure", "run/step_10.safetensors", *TASK, "--eps", "0.05", "--method", "quantize", "--save", "net.coarse")
    assert run(*made)[0] == 0
    torch.set_num_threads(threads)
    (workplace / "data.bin").write_bytes(b"examples")
    return run


def certified(call: Call, *more: str) -> dict:
    code, out, err = call("certify", "net.coarse", *TASK, *AGAINST, "--eps", "0.05", *RISK, *more, "--out", "certificate.json")
    assert (code, out.endswith("Written: certificate.json")) == (0, True), err
    return json.loads(Path("certificate.json").read_text())


def test_a_certificate_holds_for_whoever_measures_again(call: Call) -> None:
    document = certified(call, "--data", "data.bin")
    assert {
        "schema",
        "certificate",
        "file_sha256",
        "decoded_sha256",
        "sha256",
        "loss",
        "task",
        "data",
        "tolerance",
        "torch",
    } <= set(document)
    assert [one["file"] for one in document["task"]] == ["mytask.py"]
    code, out, _ = call(
        *("verify", "net.coarse", *TASK, *AGAINST, "--eps", "0.05", *RISK, "--data", "data.bin", "--claims", "certificate.json")
    )
    assert code == 0, out
    assert "reported data holds the files claimed" in out
    assert "Not checked, but taken on trust: certificate, " in out


def test_another_process_with_other_threads_in_another_folder_agrees(call: Call, tmp_path: Path) -> None:
    certified(call)
    there = tmp_path / "elsewhere"
    there.mkdir()
    for name in ("mytask.py", "net.coarse", "certificate.json", "run/step_10.safetensors"):
        (there / Path(name).name).write_bytes(Path(name).read_bytes())
    arguments = ["verify", "net.coarse", *TASK, "--against", "step_10.safetensors", *RISK, "--claims", "certificate.json"]
    command = [sys.executable, "-m", "nncomplexity", *arguments]
    done = subprocess.run(
        command, cwd=there, env=os.environ | {"OMP_NUM_THREADS": "2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [("mytask.py", "reported task FAILS"), ("data.bin", "reported data FAILS"), ("net.coarse", "reported file_sha256 FAILS")],
)
def test_something_else_than_what_was_certified_fails(call: Call, name: str, said: str) -> None:
    certified(call, "--data", "data.bin")
    if name == "net.coarse":
        made = ("measure", "run/step_10.safetensors", *TASK, "--eps", "0", "--save", "net.coarse")
        assert call(*made)[0] == 0
    else:
        Path(name).write_bytes(Path(name).read_bytes() + b"\n")
    code, out, _ = call("verify", "net.coarse", *TASK, "--data", "data.bin", "--claims", "certificate.json")
    assert (code, said in out) == (1, True), out


def test_what_fails_is_not_certified(call: Call) -> None:
    code, out, _ = call("certify", "net.coarse", *TASK, *AGAINST, "--eps", "1e-9", "--out", "certificate.json")
    assert (code, "distortion FAILS" in out, Path("certificate.json").exists()) == (1, True, False)


def test_a_call_that_cannot_be_is_one_line(call: Call) -> None:
    code, _, err = call("verify", "net.coarse", *TASK, "--data", "data.bin")
    assert (code, "--data: it needs --claims CERTIFICATE" in err) == (2, True)
    certified(call)
    code, _, err = call("verify", "net.coarse", *TASK, "--data", "none.bin", "--claims", "certificate.json")
    assert (code, "none.bin: cannot read it" in err) == (2, True)
    code, _, err = call("certify", "net.coarse", *TASK, *AGAINST, "--eps", "0.05", "--out", "net.coarse")
    assert (code, "it would overwrite another file of this call" in err) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "claim"),
    [("--n", "63", "bound.n"), ("--delta", "0.01", "bound.delta"), ("--chance", "0.5", "bound.chance")],
)
def test_an_option_that_says_otherwise_fails(call: Call, option: str, value: str, claim: str) -> None:
    certified(call)
    code, out, _ = call("verify", "net.coarse", *TASK, option, value, "--claims", "certificate.json")
    assert (code, f"reported {claim} FAILS" in out) == (1, True), out
