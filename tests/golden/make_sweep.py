"""The hierarchical bootstrap of sweeps in plain Python: golden values of tests/it/sweep/statistics.rs.

    python3 tests/golden/make_sweep.py

    sweep/bootstrap.json   points [point][seed][prompt]; per point mean, lo, hi, and those of its difference to the first
"""

import json
import pathlib
import random

HERE = pathlib.Path(__file__).parent
RESAMPLES, SEED, MASK = 10_000, 20_240_917, (1 << 64) - 1


def split_mix(state):
    """SplitMix64 (Steele, Lea and Flood 2014)."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def quantiles(values):
    values = sorted(values)
    return [values[int((len(values) - 1) * q + 0.5)] for q in (0.025, 0.975)]


def main():
    chance = random.Random(5)
    shape = (3, 3, 1)  # seeds per point
    prompts = 7
    points = [[[round(chance.gauss(0.3 * p, 1.0) + 0.1 * s, 4) for p in range(prompts)] for s in range(seeds)] for seeds in shape]
    draws = split_mix(SEED)
    resampled = [[] for _ in points]
    for _ in range(RESAMPLES):
        seeds = [next(draws) for _ in range(max(shape))]
        picks = [(next(draws) * prompts) >> 64 for _ in range(prompts)]
        for means, values in zip(resampled, points):
            chosen = [values[(raw * len(values)) >> 64] for raw in seeds[: len(values)]]
            means.append(sum(of_seed[i] for of_seed in chosen for i in picks) / (len(values) * prompts))
    exact = [sum(map(sum, values)) / (len(values) * prompts) for values in points]
    expected = []
    for mean, drawn in zip(exact, resampled):
        differences = [a - b for a, b in zip(drawn, resampled[0])]
        expected.append({"mean": mean, "interval": quantiles(drawn), "difference": mean - exact[0], "difference_interval": quantiles(differences)})
    (HERE / "sweep").mkdir(exist_ok=True)
    (HERE / "sweep" / "bootstrap.json").write_text(json.dumps({"points": points, "expected": expected}, indent=1) + "\n")


if __name__ == "__main__":
    main()
