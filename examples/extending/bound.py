"""A bound of your own: the empirical Bernstein inequality, valid for all files at once."""

import math

from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import estimate
from nncomplexity.bounds import elias_delta_bits


def bernstein_bound(bits: int, *, risk: float, n: int, delta: float = 0.05) -> float:
    """Upper bound on the error rate on unseen data of a network that decodes from a payload of `bits` bits.

    Maurer and Pontil (2009): for one fixed predictor, with probability 1 - δ,
    R ≤ r̂ + √(2·V·ln(2/δ) / n) + 7·ln(2/δ) / (3·(n - 1)), where V is the sample variance of the errors.
    The file of K bits gets the share δ·2^(-K), so ln(2/δ) becomes K·ln 2 + ln(2/δ).
    """
    # A payload doesn't say where it ends. So the bits of its length count, too.
    paid = bits + elias_delta_bits(bits // 8 + 1)
    nats = paid * math.log(2) + math.log(2 / delta)
    variance = risk * (1 - risk) * n / (n - 1)
    return min(1.0, risk + math.sqrt(2 * variance * nats / n) + 7 * nats / (3 * (n - 1)))


if __name__ == "__main__":
    weights = load_file("examples/digits/checkpoints/mlp.safetensors")
    report = estimate(weights, task.loss, eps=0.5, budget=200)
    risk = float(task.error(report.coarse_weights()))
    kl = report.bound(risk=risk, n=1437).value
    own = bernstein_bound(report.bits, risk=risk, n=1437)
    print(f"both are above the error on the examples: {risk < min(kl, own)}")
    print(f"the kl bound is the smaller one: {kl <= own}")
    print(f"100 bits, 2 % errors, a million examples: {bernstein_bound(100, risk=0.02, n=1_000_000):.4f}")
