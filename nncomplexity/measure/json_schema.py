"""JSON Schemas of results files, for programs that read these files."""

import json
from importlib.resources import files
from typing import Any

from nncomplexity.errors import InputError

KINDS = ("report", "curve", "row")


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of results file.

    The schemas of "report" and "row" are files of the package, `nncomplexity/measure/schemas/KIND.schema.json`. That of "curve" is made
    from the report's. All of them allow keys that they don't name, since later versions may add some (docs/results.md).

    Args:
        kind: "report" for report.json, "curve" for curve.json, "row" for a line of results.jsonl.

    Returns:
        A new copy of the schema, which the caller may change.

    Raises:
        InputError: `kind` is not one of these three words.

    >>> json_schema("curve")["title"]
    'curve.json of nncomplexity'
    """
    if kind not in KINDS:
        raise InputError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    return _of_a_curve(_read("report")) if kind == "curve" else _read(kind)


def _read(kind: str) -> dict[str, Any]:
    text = files("nncomplexity.measure").joinpath("schemas", f"{kind}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _of_a_curve(report: dict[str, Any]) -> dict[str, Any]:
    """The schema of a report with a summary of its many ε, whose form is among the properties of the report's schema."""
    return {
        **report,
        "title": "curve.json of nncomplexity",
        "description": "One network at many ε, with a summary. A report.json with one more key.",
        "required": [*report["required"], "curve"],
    }
