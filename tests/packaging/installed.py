"""Whether an installed nncomplexity is whole: run by distributions.sh, with the Python that has it, in an empty folder."""

import importlib.metadata
import json
import resource
import subprocess
import sys
import time
import tomllib
from importlib.resources import files
from pathlib import Path

FILES = (
    "py.typed",
    "show/html/page.css",
    "show/html/page.js",
    *(f"measure/schemas/{kind}.schema.json" for kind in ("report", "row")),
)
TASK = """
import torch

x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
labels = (x[:, 0] > 0).long()

def loss(weights):
    return torch.nn.functional.cross_entropy(x @ weights["weight"].T, labels)
"""
MAKE = """
import torch
from safetensors.torch import save_file

save_file({"weight": torch.tensor([[-4.0, 0.1, 0, 0], [4.0, 0, 0.1, 0]])}, "net.safetensors")
"""


def program(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """What the installed command prints. Its exit code must be one of these."""
    done = subprocess.run([Path(sys.executable).with_name("nncomplexity"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in codes, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def _processor_time() -> float:
    """Of the programs that were run so far."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def main() -> None:
    """Each check in turn; an AssertionError says what is missing."""
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    for name in ("matplotlib", "sklearn", "pytest", "pandas"):
        assert not any(name in str(place.name).lower() for place in Path(sys.prefix).glob("lib/python*/site-packages/*")), name
    package = files("nncomplexity")
    assert str(package).startswith(sys.prefix), package
    assert [name for name in FILES if not package.joinpath(name).is_file()] == []
    assert f"nncomplexity {importlib.metadata.version('nncomplexity')}" in program("--version")
    assert set(importlib.metadata.metadata("nncomplexity").get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    program("doctor")
    Path("mytask.py").write_text(TASK, encoding="utf-8")
    subprocess.run([sys.executable, "-c", MAKE], check=True)
    began, spent = time.monotonic(), _processor_time()
    program(
        "measure", "net.safetensors", "--loss-fn", "mytask:loss", "--eps", "0.1", "--save", "net.coarse", "--json", "report.json"
    )
    print(
        f"a first measurement took {time.monotonic() - began:.1f} s, of which the processor worked {_processor_time() - spent:.1f} s"
    )
    program(
        "measure",
        "net.safetensors",
        "--loss-fn",
        "mytask:loss",
        "--eps",
        "0.1",
        "--method",
        "bayes",
        "--budget",
        "20",
        codes=(0, 3),
    )
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["results"][0]["within"]
    program("verify", "net.coarse", "--loss-fn", "mytask:loss", "--against", "net.safetensors", "--eps", "0.1")
    program("decompress", "net.coarse", "--out", "decoded.safetensors")
    program("report", "report.json", "--out", "report.html")
    assert "pip install 'nncomplexity[plots]'" in program("plot", "report.json", "--out", "report.svg", codes=(2,))
    program("init", "newtask.py", "--kind", "classifier")
    print("whole")


if __name__ == "__main__":
    main()
