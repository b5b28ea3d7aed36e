"""Reads files of `torch.save` from before PyTorch 1.6: five pickles, and then the tensors' bytes.

A file with a whole module also has the source text of the module's classes: each class is a persistent id `("module", class, file, source)`.
The safe reader of `torch.load(weights_only=True)` refuses such ids, because it knows only the ids of storages. So they are replaced before
the file is read.
"""

import io
import pickletools
from typing import Any

from nncomplexity.checkpoint.placeholders import names_in

_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The first pickle, after its protocol: one number that marks the format."""
_BEFORE = 3
"""The number of pickles before the one with the object: the mark, the format's version, and the sizes of integers."""


class ClassWithSource:
    """A replacement for such an id. It is called with the content of the id, and returns the class that the id names."""

    def __new__(cls, _: object, named: object, *__: object) -> Any:
        """The class that the id names."""
        return named


def is_legacy(content: bytes) -> bool:
    """Whether a file with these bytes has this format."""
    return content.startswith(_MAGIC, 2)


def legacy_names(content: bytes) -> set[str]:
    """The names of classes and functions in such a file."""
    stream = io.BytesIO(content)
    stream.seek(_object_at(content))
    return names_in(stream)


def without_sources(content: bytes) -> bytes:
    """The file with a call of `ClassWithSource` instead of each class with source text. Without such classes, the bytes do not change."""
    stream = io.BytesIO(content)
    stream.seek(_object_at(content))
    call = f"c{ClassWithSource.__module__}\n{ClassWithSource.__qualname__}\n".encode()
    pieces, done = [], 0
    for start, end in _classes(stream):
        # R calls what is on the stack. It takes the place of the one byte that made the id.
        pieces += [content[done:start], call, content[start:end], b"R"]
        done = end + 1
    return b"".join([*pieces, content[done:]]) if pieces else content


def _object_at(content: bytes) -> int:
    stream = io.BytesIO(content)
    for _ in range(_BEFORE):
        for _ in pickletools.genops(stream):
            pass
    return stream.tell()


def _classes(stream: io.BytesIO) -> list[tuple[int, int]]:
    """For each such id in a pickle, the place where its tuple begins and the place where the id is made from the tuple."""
    # Repeated texts are stored once and then fetched from the memo, so `texts` follows the memo.
    found: list[tuple[int, int]] = []
    texts: dict[object, str] = {}
    marks: list[tuple[int, list[str | None]]] = []
    text: str | None = None
    begun, first = 0, None
    for opcode, argument, position in pickletools.genops(stream):
        at = position or 0
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            if text is not None:
                texts[argument] = text
            continue
        text = str(argument) if opcode.name == "BINUNICODE" else None
        if opcode.name in ("BINGET", "LONG_BINGET"):
            text = texts.get(argument)
        if opcode.name == "MARK":
            marks.append((at, []))
        elif opcode.name == "TUPLE" and marks:
            begun, inside = marks.pop()
            first = inside[0] if inside else None
        elif opcode.name == "BINPERSID" and first == "module":
            found.append((begun, at))
        elif marks:
            marks[-1][1].append(text)
    return found
