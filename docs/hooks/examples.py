"""Examples of docstrings become blocks of code on the site; without this, `>>>` would be a quotation in Markdown."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*(?:\n *\S.*)*", flags=re.MULTILINE)


class Examples(griffe.Extension):
    """Runs on every object of the package when its source has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put a fence around each example, which ends at an empty line."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with a fence around each example."""
    return EXAMPLE.sub(lambda block: f"{block['indent']}```pycon\n{block[0]}\n{block['indent']}```", text)
