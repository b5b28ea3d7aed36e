"""Damages files in every way: bytes, values of JSON, and content under a checksum, which is then corrected."""

import copy
import hashlib
import json
import random
import struct
from typing import Any

from tests.fuzz import seeds

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, -(10**30), 0.0, -0.0, 0.5, 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf"), -float("inf"), "", "x", "0.5", "\x1b[2J", "é" * 300, "x" * 5000, "\ud800", "\0", "../../etc"),
    *([], {}, [[]], [None], ["a"], [1, 2, 3], {"a": 1}, {"": None}, {"sha256": 3}, [{"name": "w"}], [{}]),
)
_HEAD = struct.Struct("<8sHIQ")


def bytes_damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four changes. Some changes insert parts of `other`, another file."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not made:
            made += other[:10]
        at = chance.randrange(len(made))
        match chance.randrange(9):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at] = chance.randrange(256)
            case 2:
                width = chance.choice("BHIQ")
                size = struct.calcsize(width)
                number = chance.choice(_NUMBERS) & (256**size - 1)
                made[at : at + size] = struct.pack(chance.choice("<>") + width, number)
            case 3:
                del made[at : at + chance.choice((1, 2, 8, 100))]
            case 4:
                made[at:at] = chance.randbytes(chance.choice((1, 2, 8, 100)))
            case 5:
                del made[at:]
            case 6:
                end = at + chance.choice((1, 4, 40))
                made[at:at] = made[at:end] * chance.choice((1, 2, 50))
            case 7 if other:
                start = chance.randrange(len(other))
                made[at : at + 20] = other[start : start + chance.choice((4, 20, 200))]
            case _:
                made[at : at + 8] = bytes(8)
    return bytes(made)


def json_damaged(content: bytes, chance: random.Random) -> bytes:
    """The document with one to three changes: replaced values, and dropped or renamed keys. Sometimes bytes are damaged instead."""
    if chance.random() < 0.15:
        return bytes_damaged(content, content, chance)
    document = json.loads(content)
    for _ in range(chance.choice((1, 1, 2, 3))):
        document = _changed(document, chance)
    text = json.dumps(document)
    if chance.random() < 0.03:
        text = text.replace("{", "[" * chance.choice((1, 2000, 100_000)), 1)
    return text.encode(errors="surrogatepass")


def lines_damaged(content: bytes, chance: random.Random) -> bytes:
    """Lines of JSON. One of them is damaged, cut, or repeated."""
    lines = content.splitlines()
    at = chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            lines[at] = lines[at][: chance.randrange(len(lines[at]) + 1)]
        case 1:
            lines.insert(chance.randrange(len(lines)), lines[at])
        case 2:
            lines.insert(at, b"\0" * chance.randrange(20))
        case _:
            lines[at] = json_damaged(lines[at], chance)
    return b"\n".join(lines) + chance.choice((b"", b"\n", b"\n", b"\r\n"))


def coarse_damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """A damaged .coarse file with a corrected checksum. Sometimes the checksum is not corrected."""
    if chance.random() < 0.1:
        return bytes_damaged(content, other, chance)
    magic, version, names, _ = _HEAD.unpack_from(content)
    skeleton, payload = content[_HEAD.size : _HEAD.size + names], content[_HEAD.size + names : -32]
    if chance.random() < 0.4:
        skeleton = _skeleton_damaged(skeleton, chance)
    if chance.random() < 0.8:
        payload = bytes_damaged(payload, other[60:], chance)
    if chance.random() < 0.03:
        version = chance.randrange(5)
    body = _HEAD.pack(magic, version, len(skeleton), len(payload)) + skeleton + payload
    return body + hashlib.sha256(body).digest()


def zip_damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """An archive with a damaged record and a corrected checksum. Sometimes the checksum is not corrected."""
    if chance.random() < 0.3:
        return bytes_damaged(content, other, chance)
    records = seeds.records(content)
    names = list(records)
    name = (
        chance.choice([one for one in names if one.endswith((".pkl", ".npy"))] or names)
        if chance.random() < 0.7
        else chance.choice(names)
    )
    match chance.randrange(8):
        case 0:
            del records[name]
        case 1:
            records[chance.choice(names)] = records[name]
        case 2:
            records[name + chance.choice(("x", "/", "\0", "é" * 50))] = records.pop(name)
        case _:
            records[name] = bytes_damaged(records[name], other, chance)
    return seeds.archived(records)


def _skeleton_damaged(text: bytes, chance: random.Random) -> bytes:
    entries = json.loads(text)
    at = chance.randrange(len(entries))
    match chance.randrange(7):
        case 0 if isinstance(entries[at], list):
            extents = chance.choice((0, 1, 2, 3, 63, 64, 65, 300))
            few = (1,) if extents > 3 and chance.random() < 0.7 else (0, 1, 2, 3, 64, 1000, 2048, 2**20, 2**40)
            entries[at][2] = [chance.choice(few) for _ in range(extents)]
        case 1 if isinstance(entries[at], list):
            entries[at][1] = chance.choice(
                ("float32", "float16", "bool", "uint64", "complex128", "int8", "bfloat16", "float8_e4m3fn", "x")
            )
        case 2 if isinstance(entries[at], list):
            entries[at][0] = chance.choice((["a"], ["a", "b"], [], ["\x1b[2J"], ["x" * 5000], [3]))
        case 3:
            entries.insert(at, copy.deepcopy(entries[at]))
        case 4:
            del entries[at]
        case _:
            entries = _changed(entries, chance)
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def _changed(document: Any, chance: random.Random) -> Any:
    """The document with one change."""
    places = list(_places(document))
    if not places:
        return chance.choice(_VALUES)
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("x", "", f"{key}x", "bits@0.1", "eps"))] = holder.pop(key)
        case 2:
            other, name = chance.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = copy.deepcopy(other[name])
        case 3 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case 4 if isinstance(holder[key], float) or (type(holder[key]) is int and abs(holder[key]) < 2**64):
            holder[key] = holder[key] * chance.choice((-1, 0, 2, 1e300)) + chance.choice((0, 1, 0.5))
        case _:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))
    return document


def _places(value: Any) -> Any:
    """The places of all values in a document: for each, the list or dictionary that contains it, and its key there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(inside):
        yield value, key
        yield from _places(inner)
