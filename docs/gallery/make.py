"""Runs the programs of the gallery, and writes for each its picture, its record, and code and output into its page.

    python docs/gallery/make.py                 all: some two minutes on one core
    python docs/gallery/make.py digits bound    some
    python docs/gallery/make.py --fill          write code and records into the pages, without running

A record, such as digits.json, says by which version and source the picture was measured, and what the program printed.
`python -m benchmarks.reporting.stale` says whether the source has changed since.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.cases.networks import ROOT
from benchmarks.cases.source import made_by
from benchmarks.reporting.stale import caption, made

PROGRAMS, PAGES = ROOT / "examples" / "gallery", ROOT / "docs" / "gallery"
NAMES = sorted(path.stem for path in PROGRAMS.glob("[!_]*.py"))
STYLE = "svg.hashsalt: nncomplexity\nsvg.fonttype: none\nfont.size: 9\naxes.spines.top: False\naxes.spines.right: False\n"
"""Read by matplotlib from the current folder: the same program draws the same file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help="which; all unless given")
    parser.add_argument("--fill", action="store_true", help="write code and records into the pages, without running")
    arguments = parser.parse_args()
    chosen = arguments.programs or NAMES
    if unknown := set(chosen) - set(NAMES):
        parser.error(f"expected some of {', '.join(NAMES)}, got {', '.join(sorted(unknown))}")
    for name in chosen:
        if not arguments.fill:
            measure(name)
        page = PAGES / f"{name}.md"
        page.write_text(filled(page.read_text(encoding="utf-8"), name), encoding="utf-8")


def measure(name: str) -> None:
    """Run a program, and write its record and its picture."""
    printed, picture = run(name)
    content = {"settings": {"threads": 1, "torch": torch.__version__, **made_by()}, "printed": printed}
    record = PAGES / f"{name}.json"
    record.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    about = made(record.relative_to(ROOT).as_posix()).as_text()
    (PAGES / f"{name}.svg").write_text(signed(picture, about), encoding="utf-8")


def run(name: str) -> tuple[str, str]:
    """Run a program in a folder of its own, on one thread. Returns what it printed, and its picture as text."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "examples").symlink_to(ROOT / "examples")
        Path(folder, "matplotlibrc").write_text(STYLE, encoding="utf-8")
        environment = {key: value for key, value in os.environ.items() if key != "GALLERY_BUDGET"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", f"examples.gallery.{name}"]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8")
        return done.stdout, Path(folder, f"{name}.svg").read_text(encoding="utf-8")


def signed(picture: str, about: str) -> str:
    """An SVG of matplotlib's that says what measured it, instead of when it was drawn."""
    undated = re.sub(r" *<dc:date>.*?</dc:date>\n", "", picture)
    undated = re.sub(r"[ \t]+$", "", undated, flags=re.MULTILINE)
    return undated.replace("<cc:Work>\n", f"<cc:Work>\n    <dc:description>measured by {about}</dc:description>\n", 1)


def filled(page: str, name: str) -> str:
    """A page with the program, what it printed, and what measured it."""
    code = (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    printed = json.loads((PAGES / f"{name}.json").read_text(encoding="utf-8"))["printed"]
    for language, text in (("python", code), ("text", printed)):
        page = re.sub(
            rf"^```{language}\n.*?^```$", lambda _, block=f"```{language}\n{text}```": block, page, count=1, flags=re.M | re.S
        )
    return re.sub(r"^Measured by .*\.$", caption([f"docs/gallery/{name}.json"]), page, count=1, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
