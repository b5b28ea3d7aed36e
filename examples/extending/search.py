"""A search of your own: double the step of one tensor after another, as long as the loss stays within ε."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import StopSearch, estimate
from nncomplexity.search import Candidate, Found, Problem


@dataclass(frozen=True)
class Doubling:
    """Starts with a fine step for every tensor. Doubles one step, keeps it if the file is within ε, and goes to the next tensor."""

    budget: float = 40
    """Loss evaluations for each ε."""
    first_step: float = 2.0**-5
    name = "doubling"
    codec = "entropy"

    def search(self, problem: Problem, eps: Sequence[float]) -> list[Found]:
        """One answer for each ε, in the order of `eps`."""
        return [self.search_one(problem, value) for value in eps]

    def search_one(self, problem: Problem, eps: float) -> Found:
        wall, cpu, before = time.perf_counter(), time.process_time(), problem.distortion.evaluations
        names = [spec.name for spec in problem.skeleton.tensors if problem.quantizable(spec)]
        steps = dict.fromkeys(names, self.first_step)
        best, stopped = None, False
        try:
            for done in range(int(self.budget)):
                problem.progress(done, self.budget, "doubling steps")
                trial = steps if done == 0 else steps | {names[done % len(names)]: 2 * steps[names[done % len(names)]]}
                candidate = self.candidate(problem, trial)  # one evaluation
                if problem.feasible(candidate, eps) and (best is None or candidate.bits < best.bits):
                    best, steps = candidate, trial
        except StopSearch:  # Ctrl-C or a time limit: the best file so far is the answer
            stopped = True
        spent = problem.distortion.evaluations - before
        return Found(best, spent, time.perf_counter() - wall, time.process_time() - cpu, stopped)

    def candidate(self, problem: Problem, steps: dict[str, float]) -> Candidate:
        """Write every tensor with its step, decode the file, and measure the loss of the decoded weights."""
        tensors = [
            problem.quantized(spec, steps[spec.name]) if spec.name in steps else problem.exact(spec)
            for spec in problem.skeleton.tensors
        ]
        return problem.candidate(tensors, origin=self.name)


if __name__ == "__main__":
    weights = load_file("examples/digits/checkpoints/mlp.safetensors")
    report = estimate(weights, task.loss, eps=0.1, method=Doubling())
    print(f"within ε: {report.distortion <= 0.1}, evaluations: {report.evaluations:.0f}, from {report.origin}")
    print(f"smaller than a twentieth of the weights: {report.bits < report.subject.raw_bits / 20}")
