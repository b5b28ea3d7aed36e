"""Finds the training step among the numbers in a file's name, by the words next to them.

A name is divided into words and numbers. A number is the step if a word says so: `step_100`, `epoch=3`, `checkpoint-500`. A number without such
a word is the step if its place is clear: next to a word such as `model`, with leading zeros, or alone. Accuracies, learning rates, dates,
versions, sizes, seeds and hashes are recognised by their form or their word, and are never the step. docs/results.md has the whole rule.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STEP = _words("step steps globalstep iter iters iteration iterations itr update updates kimg")
_EPOCH = _words("epoch epochs ep")
_SAVED = _words("checkpoint ckpt chkpt chk snapshot")
_NETWORK = _words("model net network weights weight params state save saved")
_ROLE = _words("ema swa generator discriminator policy agent actor critic teacher student")
"""Words that distinguish several networks of one training."""
_PLANNED = _words("max total num n warmup accum accumulation inference sampling denoising per every grad")
"""Words before `steps` after which the number is a setting."""
_SCORE = _words("acc accuracy loss err error f1 top auc iou miou map bleu score psnr ssim fid ppl perplexity val")
_LABEL = _words(
    "seed rank fold split v ver version rev gpu node worker shard part layer layers head heads dim bs batch batchsize size lr wd decay "
    "best run exp experiment trial job id task class classes patch res resolution scale crop stage block depth width hidden seq len year "
    "port px"
)
"""Words whose numbers distinguish networks, and not steps of one training."""
_UNITS = {"k": 1_000, "m": 1_000_000}
_SIZES = frozenset((16, 32, 64, 96, 128, 160, 192, 224, 256, 384, 448, 512, 768, 1024, 2048))
"""Widths and resolutions. Files that differ only in such a number may be different networks."""
_DIGITS = 18
"""The largest number of digits of a step. A longer number is a hash or an id."""
_PADDED = 3
"""The smallest number of digits with which leading zeros count as padding, as in 000100."""

_TOKEN = re.compile(
    r"""
    (?P<date>
        (?<!\d)(?:19|20)\d\d(?P<dash>[-_.]?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12]\d|3[01])   # 2024-01-31, 20240131
            (?:[-_.t ]*[0-2]\d(?P<colon>[-_:.h]?)[0-5]\d(?:(?P=colon)[0-5]\d)?)?(?!\d)          # and a time
      | (?<!\d)(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d(?!\d)
      | (?<!\d)1\d{9}(?:\d{3})?(?!\d)                                                           # seconds since 1970
    )
  | (?P<power>(?<![a-z\d])\d+(?:\.\d+)?e[-+]?\d+(?![a-z\d]))                                    # 1e-4
  | (?P<version>(?<!\d)\d+(?:\.\d+){2,}(?!\d))
  | (?P<decimal>(?<!\d)\d+\.\d+)
  | (?P<whole>\d+)
  | (?P<word>f1(?!\d)|[a-z]+)
  | (?P<between>[^a-z\d]+)
    """,
    re.VERBOSE | re.ASCII,
)


class Clear(IntEnum):
    """How clear it is that a number is the training step; the clearest is last."""

    BARE = 1
    """The number is the step only by its place."""
    SAVED = 2
    """The number is next to a word for a checkpoint."""
    EPOCH = 3
    STEP = 4


@dataclass(frozen=True)
class Count:
    """A number in a name that may be the training step."""

    value: int | float
    clear: Clear
    start: int
    end: int
    """The place of its digits in the name: from `start` up to, but without, `end`."""
    said: str
    """The number with its word, as in the name."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int
    joined: bool
    """Whether there is nothing between it and the token before it."""


def counts_in(name: str) -> list[Count]:
    """The numbers of a name that may be the training step. The clearest comes first. Of equally clear ones, the last in the name comes first.

    >>> [(count.said, count.value) for count in counts_in("epoch=3-step=1200-val_loss=0.25")]
    [('step=1200', 1200), ('epoch=3', 3)]
    >>> [counts_in(name) for name in ("best_acc_0.93", "resnet50", "2024-01-31", "lr0.001", "seed_3", "bert-base-v1.1", "350m")]
    [[], [], [], [], [], [], []]
    """
    tokens = _tokens(name)
    return sorted((*_worded(name, tokens), *_placed(name, tokens)), key=lambda count: (-count.clear, -count.start))


def varying(names: Iterable[str]) -> dict[str, Count]:
    """The number in which names differ, if they differ only in one integer. It is the step if no word in the names points to another number.

    A number with another meaning, by its form or its word, is never the step. Neither are numbers that are all widths, resolutions or years.

    >>> {name: count.value for name, count in varying(["a-1-x", "a-2-x", "b-7", "vit-224", "vit-384", "c_v1", "c_v2"]).items()}
    {'a-1-x': 1, 'a-2-x': 2}
    """
    alike: dict[str, list[tuple[str, list[Count]]]] = {}
    for name in dict.fromkeys(names):
        tokens = _tokens(name)
        free = [_bare(name, tokens, index) for index in range(len(tokens)) if _is_free(tokens, index)]
        others = [token for token in tokens if token.kind in ("date", "power", "decimal", "score")]
        alike.setdefault(_masked(name, [*free, *others]), []).append((name, free))
    found: dict[str, Count] = {}
    for group in alike.values():
        values = [[count.value for count in place] for place in zip(*(free for _, free in group), strict=True)]
        places = [place for place, here in enumerate(values) if len(set(here)) > 1]
        if len(places) != 1:
            continue
        (place,) = places
        here = values[place]
        telling = len(set(here)) == len(here) and set(here) - _SIZES and not all(map(_is_year, here))
        found |= {name: free[place] for name, free in group if telling}
    return found


def _tokens(name: str) -> list[_Token]:
    """The words and numbers of a name. A capital letter before a small one also begins a word."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "\0", name)
    small = re.sub("[A-Z]", lambda match: match[0].lower(), apart)
    found: list[_Token] = []
    joined, added, scored = False, 0, False
    for match in _TOKEN.finditer(small):
        kind, text = str(match.lastgroup), match[0]
        start = match.start() - added
        added += text.count("\0")
        if kind == "between":
            joined = text == "\0"
            continue
        if kind == "word":
            scored = text in _SCORE
        elif (kind == "whole" and scored) or len(text.lstrip("0")) > _DIGITS:
            kind = "score"
        found.append(_Token(kind, text, start, match.end() - added, joined))
        joined = True
    return found


def _worded(name: str, tokens: Sequence[_Token]) -> Iterator[Count]:
    """The numbers next to words for steps: the number after a word, or otherwise the number directly before it."""
    taken: set[int] = set()
    for index, token in enumerate(tokens):
        clear = _clear(token.text)
        if clear is None or (index and tokens[index - 1].text in _PLANNED):
            continue
        number = _behind(name, tokens, index, clear)
        if number is None and clear > Clear.SAVED and index and tokens[index - 1].start not in taken:
            number = _before(tokens, index)
        if number is not None:
            taken.add(number.start)
            letters = next((one for one in tokens if one.start == number.end and one.text not in _STEP), number)
            yield _count(name, number, clear, _UNITS.get(letters.text[0], 1), context=(token, letters))


def _clear(word: str) -> Clear | None:
    bare = word[1:] if word[:1] in _UNITS and word not in _STEP else word  # 10ksteps
    if bare in _STEP:
        return Clear.STEP
    return Clear.EPOCH if word in _EPOCH else Clear.SAVED if word in _SAVED else None


def _behind(name: str, tokens: Sequence[_Token], index: int, clear: Clear) -> _Token | None:
    """The number after a word.

    If several numbers follow a word for a checkpoint, such as epoch and update, it is the last one. After a word for steps, the number may be
    written in groups of digits.
    """
    numbers = list(tokens[index + 1 :])
    if not numbers or not _is_number(numbers[0], clear):
        return None
    first = numbers[0]
    if re.fullmatch(r"[_=. ]+-", name[tokens[index].end : first.start]):
        return None  # step=-1 is no step
    groups = re.match(r"[0-9]{1,3}(?:([_,])[0-9]{3})(?:\1[0-9]{3})*(?![0-9])", name[first.start :]) if clear == Clear.STEP else None
    if groups:
        return replace(first, text=groups[0], end=first.start + groups.end())
    last = 0
    while clear == Clear.SAVED and last + 1 < len(numbers) and numbers[last + 1].kind == "whole":
        last += 1
    letters = numbers[last + 1] if last + 1 < len(numbers) and numbers[last + 1].joined else None
    units = "k" if clear == Clear.SAVED else "km"  # checkpoint-7m is a size
    return numbers[last] if letters is None or letters.text in units else None


def _before(tokens: Sequence[_Token], index: int) -> _Token | None:
    """The number before a word, as in 500steps and net_500_iters, but not in v2_steps."""
    number = tokens[index - 1]
    return number if _is_number(number, Clear.STEP) and not (index > 1 and number.joined) else None


def _is_number(token: _Token, clear: Clear) -> bool:
    """Whether a token after a word is its number. After a word for steps, it may also have the form of a date."""
    return token.kind == "whole" or (
        clear > Clear.SAVED and (token.kind == "decimal" or (token.kind == "date" and token.text.isdigit()))
    )


def _placed(name: str, tokens: Sequence[_Token]) -> Iterator[Count]:
    """Integers without a word for steps whose place is clear."""
    for index, token in enumerate(tokens):
        if not _is_free(tokens, index) or _is_year(int(token.text)):
            continue
        first = index
        while first and _is_free(tokens, first - 1):
            first -= 1
        word = tokens[first - 1] if first and tokens[first - 1].text in _NETWORK | _ROLE else None
        follows = tokens[index + 1] if index + 1 < len(tokens) else None
        before = word is not None and not (follows and follows.kind == "whole")  # net-7, and net-3-7
        after = index == 0 and follows and follows.text in _NETWORK | _ROLE  # 100_net
        if before or after or _is_padded(token) or len(tokens) == 1:  # 000100, 7
            yield _bare(name, tokens, index)


def _is_free(tokens: Sequence[_Token], index: int) -> bool:
    """Whether a token is an integer, and neither its word nor letters joined to it give it another meaning."""
    token = tokens[index]
    if token.kind != "whole" or (index + 1 < len(tokens) and tokens[index + 1].joined):  # 7b, 16bit
        return False
    if not index or tokens[index - 1].kind != "word":
        return True
    word = tokens[index - 1]
    if word.text in _LABEL or word.text in _STEP | _EPOCH | _SAVED:
        return False
    # The numbers in resnet50 and in a hash are not steps; those in model50 and opt000100 are.
    return not token.joined or word.text in _NETWORK | _ROLE or (_is_padded(token) and not word.joined)


def _bare(name: str, tokens: Sequence[_Token], index: int) -> Count:
    """A number that is the step by its place. A word such as `model` before it belongs to the number; `ema` is the name of a network."""
    word = tokens[index - 1] if index and tokens[index - 1].text in _NETWORK else tokens[index]
    return _count(name, tokens[index], Clear.BARE, context=(word,))


def _is_padded(token: _Token) -> bool:
    return len(token.text) >= _PADDED and token.text.startswith("0")


def _is_year(value: float) -> bool:
    # 2000 is more often a step than a year.
    return 1990 <= value < 2040 and value != 2000


def _masked(name: str, numbers: Iterable[_Token | Count]) -> str:
    for token in sorted(numbers, key=lambda number: -number.start):
        name = f"{name[: token.start]}\0{name[token.end :]}"
    return name


def _count(name: str, number: _Token, clear: Clear, unit: int = 1, *, context: Sequence[_Token] = ()) -> Count:
    digits = re.sub("[_,]", "", number.text)
    value = float(digits) if number.kind == "decimal" else int(digits)
    ends = (number, *context)
    said = name[min(one.start for one in ends) : max(one.end for one in ends)]
    return Count(value if unit == 1 else round(value * unit), clear, number.start, number.end, said)
