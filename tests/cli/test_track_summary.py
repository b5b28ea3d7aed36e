"""The table that `track` prints: all of it can be read on a page of 80 columns."""

import pytest

from nncomplexity.cli.track_table import tracked
from tests.rows import failed, row

EPS = (2, 1, 0.5, 0.1, 0.05, 0.01)


def many(step: float | None, seed: int = 0, **more: object) -> dict[str, object]:
    found = row(step, eps=EPS, scale=5 + seed, seed=seed, **more)
    return found | {"settings": {**found["settings"], "metrics": {"test_error": "a:b", "train_error": "a:c"}}}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_does_not_fit_beside_each_other_stands_in_tables_of_its_own(width: int) -> None:
    rows = [many(step, seed) for step in (1, 100_000, 1_000_000) for seed in (0, 1, 2)]
    rows += [many(None, seed, run=None, kind="untrained", checkpoint=None) for seed in (0, 1)]
    out = tracked(rows, width=width)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    tables = sum(line.startswith("step ") for line in out.splitlines())
    for name in ("1 ", "100,000 ", "1,000,000 "):
        assert sum(line.startswith(name) for line in out.splitlines()) + out.count("\nuntrained ") == tables
    words = [word.rstrip(",") for word in out.split()]
    assert [words.count(name) for name in ("loss", "bytes", "bound", "test_error", "train_error", "seeds")] == [2, 12, 12, 2, 2, 2]


def test_a_table_that_fits_stays_one_and_a_long_name_is_folded_to_half_the_page() -> None:
    one = row(1) | {"settings": {"metrics": {}}}
    assert tracked([one, one | {"step": 10}]).count("loss") == 1
    name = "runs/a/" + "x" * 70 + ".safetensors"
    lines = tracked([one | {"step": None, "checkpoint": name}]).splitlines()
    # Rich 13.0 gives the first column a blank less than later ones.
    parts = [line.split()[0] for line in lines[5:] if line]
    assert "".join(parts).startswith(name)
    assert max(map(len, parts[:3])) in (39, 40, 41)
    assert max(map(len, lines)) <= 80


def test_names_that_a_terminal_would_act_on_are_escaped() -> None:
    one = row(1, run="runs/\x1b[2J") | {"settings": {"metrics": {"\x1b[1m_error": "a:b"}}}
    out = tracked([one, one | {"step": None, "checkpoint": "a\x1b.pt"}, failed(2, "no \x1b")])
    assert "\x1b" not in out
    assert [out.count(rf"{name}") for name in (r"runs/\x1b[2J:", r"a\x1b.pt", r"\x1b[1m_error", r"no \x1b")] == [1, 1, 1, 1]


def test_one_error_of_many_checkpoints_is_one_line() -> None:
    rows = [failed(step, "loss: it is nan") | {"seed": seed} for step in range(1, 58) for seed in (0, 1)]
    out = " ".join(tracked([*rows, failed(99, "it is cut")]).split())
    assert "Failed: 115 of 115." in out
    names = "57 checkpoints from runs/a/step_1.safetensors to runs/a/step_57.safetensors"
    assert f"{names}, seeds 0, 1: loss: it is nan runs/a/step_99.safetensors, seed 0: it is cut" in out


def test_a_warning_names_its_checkpoints_unless_it_is_about_all() -> None:
    more = {"warnings": ["it is noisy"], "settings": {"metrics": {}}}
    rows = [row(step) | more | {"checkpoint": f"step_{step}.pt"} for step in (1, 2, 3)]
    assert "Warning: it is noisy" in tracked(rows)
    rows[1]["warnings"] = ["it is noisy", "too few inputs", "c", "d", "e"]
    rows[2]["warnings"] = []
    page = " ".join(tracked(rows).split())
    assert "Warning, step_1.pt, step_2.pt: it is noisy" in page
    assert "Warning, step_2.pt: too few inputs" in page
    assert "The rows have 2 more warnings." in page
    rows[1]["warnings"] = ["a", "b", "c"]
    assert "The rows have 1 more warning." in tracked(rows)
