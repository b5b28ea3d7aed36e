"""Tables of the command line: no number is cut, whatever the width of the page."""

import pytest

from nncomplexity.cli.table import page_of, text_table


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("rows", [1, 12])
def test_a_table_that_is_too_wide_becomes_several(width: int, rows: int) -> None:
    """These are the columns of a curve with a divergence and a bound, and the longest ε."""
    names = ["ε", "", "bits", "bytes", "of raw", "loss after", "distortion", "agree", "held out", "bound", "MDL bits"]
    table = text_table(*names)
    cells = [[f"{index}.234e-05 (0.01%) *", "+", *(f"{index}{column},000,000" for column in range(9))] for index in range(rows)]
    for row in cells:
        table.add_row(*row)
    out = page_of(["before", table, "after"], width)
    lines = out.splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "…" not in out
    assert max(map(len, lines)) <= width
    headers = [line for line in lines if line.split()[:1] == ["ε"]]
    assert " ".join(name for line in headers for name in line.split()[1:]) == " ".join(names[2:])
    for first, *others in cells:
        mine = [line for line in lines if line.strip().startswith(first)]
        assert len(mine) == len(headers)
        assert " ".join(line.strip().removeprefix(first) for line in mine).split() == others


def test_long_names_are_folded_and_every_line_fits() -> None:
    table = text_table("layer", "shape", "form", "bits", left=("layer", "form"))
    table.add_row("transformer.blocks.11.attention.projection.weight" * 2, "1,024×1,024", "low rank in blocks", "1,000,000")
    lines = page_of([table], 60).splitlines()
    assert sum(line.startswith("layer") for line in lines) == 1
    assert max(map(len, lines)) <= 60
    assert "…" not in "".join(lines)
