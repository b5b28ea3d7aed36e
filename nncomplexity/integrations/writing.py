"""What the writers do for every tracker of experiments: values, and the picture, the page and the files of a measurement."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from nncomplexity.dynamics import Row, numbers, warn
from nncomplexity.errors import InputError
from nncomplexity.measure import Report, reports_json
from nncomplexity.show import chart, page, read_results, save
from nncomplexity.words import Relative, error_line, name_of

Reports = Report | Sequence[Report]
"""The result of `estimate` for one ε or several."""


@dataclass(frozen=True)
class Files:
    """The files of one measurement.

    Attributes:
        page: report.html.
        picture: the picture of bits against distortion; None without matplotlib, or if no file has a distortion above 0.
        others: report.json, and a .coarse file for each ε.
    """

    page: Path
    picture: Path | None
    others: tuple[Path, ...]


class ComplexityWriter:
    """Writes rows and reports to an experiment tracker. All names of values begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        numbers(None, prefix)
        self._prefix, self._warned = prefix, False

    def row(self, row: Row | None) -> None:
        """Write the numbers of a row of a `Tracker` or of `track` at its step. A failed row, or None, has no numbers.

        If the tracker can't be reached, there is one warning, and training continues.
        """
        if not row or not (values := numbers(row, self._prefix)):
            return
        try:
            self._write(values, float(row.get("step") or 0))
        except Exception as error:
            if not self._warned:
                self._warned = True
                warn(f"step {row.get('step')}: its numbers were not written ({error_line(error)}); training goes on")

    def report(self, reports: Reports, *, name: str = "model", step: float = 0) -> None:
        """Write the result of `estimate`: its numbers, the rate-distortion picture, report.html, and the `.coarse` file of each ε.

        Args:
            reports: one report, or those of several ε on one network.
            name: the name of the network, for the names of the files.
            step: the training step of the network.
        """
        several = [reports] if isinstance(reports, Report) else list(reports)
        with files_of(several, name) as files:
            self._write(numbers(_as_row(several), self._prefix), step)
            self._keep(files, name, step)

    def _write(self, values: dict[str, float], step: float) -> None:
        raise NotImplementedError

    def _keep(self, files: Files, name: str, step: float) -> None:
        raise NotImplementedError


@contextmanager
def files_of(reports: Sequence[Report], name: str) -> Iterator[Files]:
    """The files of a measurement, in a folder that is deleted afterwards.

    Yields:
        The files.

    Raises:
        InputError: the name can't be part of a file name, or there is no report.
    """
    if not reports:
        raise InputError("reports: expected at least one Report, got none")
    if not isinstance(name, str) or PurePath(name).name != name:
        raise InputError(f"name: expected a name without folders, got {name!r}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        document, html, picture = folder / "report.json", folder / "report.html", folder / "rate_distortion.png"
        document.write_text(reports_json(reports, checkpoint=name), encoding="utf-8")
        results = read_results(document)
        results = replace(results, sources=tuple(replace(one, name=document.name) for one in results.sources))
        html.write_bytes(page(results).encode(errors="backslashreplace"))
        coarse = []
        for report in reports:
            coarse.append(folder / f"{name}_{_eps_of(report)}.coarse")
            report.save(coarse[-1])
        with suppress(InputError):  # no matplotlib, or only lossless files
            save(chart(results, "rate-distortion"), picture)
        yield Files(html, picture if picture.exists() else None, (document, *coarse))


def _eps_of(report: Report) -> str:
    return name_of(report.eps if report.eps_relative is None else Relative(report.eps_relative))


def _as_row(reports: Sequence[Report]) -> dict[str, Any]:
    """The numbers of reports under the keys of a row."""
    subject = reports[0].subject
    row: dict[str, Any] = {key: getattr(subject, key) for key in ("parameters", "raw_bits", "loss", "zero_loss")}
    for report in reports:
        at = {key: getattr(report, key) for key in ("bits", "coarse_loss", "distortion", "evaluations")}
        at["agreement"] = report.faithfulness and report.faithfulness.searched.agreement
        row |= {f"{key}@{_eps_of(report)}": value for key, value in at.items()}
        row[f"layers@{_eps_of(report)}"] = [asdict(layer) for layer in report.layers]
    return row
