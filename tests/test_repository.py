"""What outsiders see first: make targets, the CI file, forms for issues, and the files that are shipped."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def of_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_ci_calls_make_on_every_python_that_is_supported() -> None:
    jobs = of_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    called = {
        match[1] for job in jobs.values() for step in job["steps"] if (match := re.match(r"make ([\w-]+)", step.get("run", "")))
    }
    [targets] = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)
    assert called >= {"test", "test-oldest", "test-newest", "wheel"}
    assert called <= set(targets.split())
    stated = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert jobs["test"]["strategy"]["matrix"]["python"] == stated
    assert f">={stated[0]}" == PROJECT["requires-python"]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_installs_nothing_of_the_tools() -> None:
    told = subprocess.run(["make", "-n", "demo", "VENV=nowhere"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "--editable '.[demo]'" in told
    assert "[dev]" not in told
    tools = {
        re.split(r"[\[>=]", one)[0] for one in (*PROJECT["optional-dependencies"]["dev"], *PROJECT["optional-dependencies"]["test"])
    }
    assert not tools & {re.split(r"[\[>=]", one)[0] for one in PROJECT["optional-dependencies"]["demo"]}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_has_what_it_needs(path: Path) -> None:
    form = of_yaml(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


@pytest.mark.parametrize("name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md"])
def test_links_of_the_pages_for_outsiders_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [target for target in targets if not re.match("https?:", target) and not (ROOT / target).exists()] == []


def test_types_are_shipped() -> None:
    assert (ROOT / "nncomplexity" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]
