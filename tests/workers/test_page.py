"""The examples of docs/distributed.md that no doctest runs."""

import re
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.main import get_command

from nncomplexity import estimate
from nncomplexity.cli.commands import app

PAGE = (Path(__file__).parents[2] / "docs" / "distributed.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_for_clusters_are_python_and_name_what_exists(block: str) -> None:
    compile(block, "docs/distributed.md", "exec")
    ours = [line for line in block.splitlines() if line.startswith("from nncomplexity")]
    exec("\n".join(ours), {})


def test_the_executor_for_ray_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A substitute for Ray: it is asked for a task of a function, and for the future of the task's reference."""

    def remote(function: Any) -> Any:
        def task(*given: Any) -> Any:
            future: Future[Any] = Future()
            future.set_result(function(*given))
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=task)

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(remote=remote))  # type: ignore[arg-type]
    (block,) = (block for block in BLOCKS if "ray" in block)
    made: dict[str, Any] = {}
    exec(block, made)
    weights = {"w": torch.eye(4)}
    one, other = (
        estimate(weights, lambda w: (w["w"] ** 2).mean(), 0.1, method="quantize", budget=8, seeds=2, executor=executor)
        for executor in (None, made["RayExecutor"]())
    )
    assert (one.bits, one.spread) == (other.bits, other.spread)


def test_commands_have_the_options_that_the_page_names() -> None:
    calls = re.findall(r"^nncomplexity (\w+) (.*)$", PAGE, flags=re.MULTILINE)
    assert calls
    for command, text in calls:
        known = {name for option in COMMANDS[command].params for name in option.opts}
        assert set(re.findall(r"--[\w-]+", text)) <= known
