"""JSON Schemas of results files, for programs that read these files."""

import json
from importlib.resources import files
from typing import Any

from nncomplexity.errors import InputError

KINDS = ("report", "curve", "row")


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a kind of results file.

    The schemas are files of the package, `nncomplexity/measure/schemas/KIND.schema.json`. They allow keys that they don't name, since later
    versions may add some (docs/results.md).

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
    text = files("nncomplexity.measure").joinpath("schemas", f"{kind}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
