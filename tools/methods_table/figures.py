"""From opinions and metrics to figures: means, intervals, verdicts."""

import json
import statistics
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# As src/eval/intervals.rs: one seed's intervals are those of `diffpref eval`, digit by digit.
RESAMPLES = 10_000
SEED = 20_240_917
_MASK = (1 << 64) - 1
# Figure -> (scorer, measure) of `diffpref eval`.
RATED = {
    "darkness": ("background", "darkness"),
    "content": ("nearest_drawing", "content_accuracy"),
    "distance": ("nearest_drawing", "off_manifold"),
}
AIM = "darkness"  # what the preferences ask for
# All figures of a picture: those of RATED, and whether it is as dark as the darkest third of the base model's.
MEASURES = ("best_third", *RATED)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    lo: float
    hi: float


def split_mix(state):
    """SplitMix64 (Steele, Lea and Flood 2014): an endless stream of 64-bit numbers."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        yield z ^ (z >> 31)


@lru_cache(maxsize=4)
def _picks(names):
    """The names of every resample; the same for all rows, so differences are paired."""
    draw = split_mix(SEED)
    return [[(next(draw) * names) >> 64 for _ in range(names)] for _ in range(RESAMPLES)]


def bootstrap(values):
    """Mean of one value per name, with the 2.5 % and 97.5 % quantiles over resampled names."""
    names = len(values)
    if not names:
        raise ValueError("there is no name to measure")
    drawn = sorted(sum(map(values.__getitem__, picks)) / names for picks in _picks(names))
    at = [drawn[int((RESAMPLES - 1) * q + 0.5)] for q in (0.025, 0.975)]
    return Interval(sum(values) / names, *at)


def pooled(per_seed):
    """Mean over training seeds per name: [seed][name] -> [name]."""
    return [sum(values) / len(values) for values in zip(*per_seed)]


def minus(values, others):
    return [a - b for a, b in zip(values, others)]


def verdict(best_third, content):
    """Verdict in words, from the intervals of the differences to the base model. An interval counts if it is wholly
    on one side of 0."""
    aim = "helps" if best_third.lo > 0 else "teaches the opposite" if best_third.hi < 0 else ""
    harm = "costs content" if content.hi < 0 else ""
    if aim and harm:
        return f"{aim}, {'but' if aim == 'helps' else 'and'} {harm}"
    return aim or harm or "no difference"


def per_name(rows, threshold, names, seeds):
    """{measure: [name]}: means over the pictures of each name, in the order of `names`.

    `rows`: those of one model in scores.jsonl. `threshold`: least darkness of the base model's darkest third.
    Raises KeyError when a picture was not rated.
    """
    scores = {name: [] for name in names}
    for row in rows:
        scores.setdefault(row["prompt"], []).append(row["scores"])
    for name in names:
        if len(scores[name]) != seeds:
            raise KeyError(f"scores.jsonl has {len(scores[name])} pictures of {name!r}, expected {seeds}")

    def mean(name, value):
        return sum(map(value, scores[name])) / seeds

    def rated(measure):
        scorer, figure = RATED[measure]
        return lambda said: said[scorer][figure]

    found = {measure: [mean(name, rated(measure)) for name in names] for measure in RATED}
    aim = rated(AIM)
    return {"best_third": [mean(name, lambda said: float(aim(said) >= threshold)) for name in names], **found}


def of_evaluation(folder, names, seeds):
    """{"base": per name, "model": per name} of an evaluation of two models, with its settings and warnings."""
    evaluation = json.loads((Path(folder) / "eval.json").read_text(encoding="utf-8"))
    text = (Path(folder) / "scores.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    threshold = threshold_of(evaluation)
    of_models = ([row for row in rows if row["model"] == model["name"]] for model in evaluation["models"])
    figures = dict(zip(("base", "model"), (per_name(of_model, threshold, names, seeds) for of_model in of_models)))
    return {"figures": figures, "settings": evaluation["settings"], "warnings": evaluation["warnings"]}


def threshold_of(evaluation):
    """Least darkness of the base model's darkest third, as the program counts it.

    Raises KeyError without it.
    """
    scorer, measure = RATED[AIM]
    for of_scorer in evaluation["scorers"]:
        for rated in of_scorer["measures"]:
            if (of_scorer["name"], rated["name"]) == (scorer, measure):
                (group,) = rated["groups"].values()
                return group["best_third"]["threshold"]
    raise KeyError(f"eval.json has no measure {measure} of {scorer}")


def of_metrics(lines):
    """Figures of a run from the lines of its metrics.jsonl; None for a figure without a line."""
    rows = [json.loads(line) for line in lines if line.strip()]

    def column(key):
        return [row[key] for row in rows if row.get(key) is not None]

    def last(key):
        return next(iter(column(key)[::-1]), None)

    seconds, memory = column("s_per_step"), column("peak_mem_gib")
    return {
        "steps": last("step"),
        "val_gap_w": last("val_gap_w"),
        "val_gap_l": last("val_gap_l"),
        "network_evaluations": last("network_evaluations"),
        "held_out": [_held_out(row) for row in rows if row.get("val_reward_gain") is not None],
        "s_per_step": statistics.median(seconds) if seconds else None,
        "peak_mem_gib": max(memory) if memory else None,
    }


def _held_out(row):
    """Gain of the held-out reward of a validated step over the start model, and of the scorers that are not trained on."""
    gains = {key: [row.get(f"{key}{end}") for end in ("", "_lo", "_hi")] for key in row if key.startswith("val_") and key.endswith("_gain")}
    watched = {key[len("val_watch_") : -len("_gain")]: gain for key, gain in gains.items() if key.startswith("val_watch_")}
    return {"step": row["step"], "reward": gains["val_reward_gain"], "watched": watched}


def clock_seconds(spans):
    """Seconds covered by at least one of the spans [start, end]."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
