"""Runs the Python blocks in the sections of a documentation page as programs."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.training import spectral_entropy_penalty

ROOT = Path(__file__).parents[1]


def blocks(page: str, heading: str) -> list[str]:
    """The blocks between this heading and the next."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```", lambda block: block[0].replace("#", "\0"), text, flags=re.S | re.M)
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", outside, flags=re.S | re.M)
    assert found, f"docs/{page} has no section {heading!r}"
    return [block.replace("\0", "#") for block in re.findall(r"^```python\n(.*?)^```", found[1], flags=re.S | re.M)]


def run_section(heading: str, folder: Path) -> dict[str, Any]:
    """Run the program of a section of docs/training.md in an empty current folder, beside its module. Returns its variables."""
    (module,) = blocks("training.md", "Training loops and trackers")
    (program,) = blocks("training.md", heading)
    (folder / "mytask.py").write_text(module, encoding="utf-8")
    (folder / "program.py").write_text(program, encoding="utf-8")
    sys.path.insert(0, str(folder))  # as Python does for a program; the fixture `workplace` puts it back
    return runpy.run_path(str(folder / "program.py"), run_name="__main__")


def penalty_gradient(model: nn.Module, name: str) -> Tensor:
    """The gradient of the penalty of docs/training.md with respect to one of the parameters, without noise."""
    (gradient,) = torch.autograd.grad(spectral_entropy_penalty(model, beta=0.1), [model.get_parameter(name)])
    return gradient
