"""The grokking example's equations and their split."""

import pytest
import torch

from examples.grokking.data import OPERATIONS, equations, split
from nncomplexity import InputError

RULES = {
    "addition": lambda a, b, c, p: (a + b - c) % p == 0,
    "subtraction": lambda a, b, c, p: (c + b - a) % p == 0,
    "multiplication": lambda a, b, c, p: (a * b - c) % p == 0,
    "division": lambda a, b, c, p: (c * b - a) % p == 0,
    "x2+y2": lambda a, b, c, p: (a**2 + b**2 - c) % p == 0,
    "x2+xy+y2": lambda a, b, c, p: (a**2 + a * b + b**2 - c) % p == 0,
}


@pytest.mark.parametrize("prime", [3, 11])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_equation_holds_and_none_is_missing(operation: str, prime: int) -> None:
    everything = equations(operation, prime)
    rows = [(*tokens, answer) for tokens, answer in zip(everything.tokens.tolist(), everything.answers.tolist(), strict=True)]
    assert all(sign == prime and equals == prime + 1 for _, sign, _, equals, _ in rows)
    assert all(0 <= c < prime and RULES[operation](a, b, c, prime) for a, _, b, _, c in rows)
    divisors = range(1, prime) if operation == "division" else range(prime)
    assert {(a, b) for a, _, b, _, _ in rows} == {(a, b) for a in range(prime) for b in divisors}
    assert len(rows) == prime * len(divisors)


@pytest.mark.parametrize(
    ("operation", "train", "everything"),
    [("addition", 2553, 12769), ("multiplication", 2553, 12769), ("subtraction", 3830, 12769), ("division", 3796, 12656)],
)
def test_the_papers_split_has_the_papers_sizes(operation: str, train: int, everything: int) -> None:
    parts = split(operation, 113, OPERATIONS[operation].train_fraction, torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [train, everything - train]


def test_train_and_test_share_no_equation_and_the_seed_decides_which_is_where() -> None:
    def pairs(seed: int) -> list[set[tuple[int, ...]]]:
        parts = split("addition", 13, 0.4, torch.Generator().manual_seed(seed))
        return [{tuple(row) for row in part.tokens.tolist()} for part in parts]

    train, test = pairs(0)
    assert not train & test
    assert len(train | test) == 169
    assert pairs(0) == [train, test]
    assert pairs(1)[0] != train


def test_too_few_examples_to_train_on_are_refused() -> None:
    with pytest.raises(InputError, match=r"train_fraction: 0\.2 of the 9 equations modulo 3 leaves 1 for training, fewer than 2"):
        split("addition", 3, 0.2, torch.Generator())
