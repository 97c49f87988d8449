"""Make assets/testbed/pairs-confidence.jsonl from pairs-drawings.jsonl: how certain every label is, by three scores.

Voters are the scores darkness, match and flat. NIMA has no vote, so that it can judge.

| field | value |
|---|---|
| scores.confidence | [c, 1 - c], c the share of the voters that prefer the winner |
| scores.mean_confidence | [C, 1 - C], C the mean of c over all rows |
| strength | mean and standard deviation of the voters' differences in z-scores, and the soft label of an ambiguous pair, as `diffpref pairs --strength` |

Usage: confidence.py      after preferences.py
"""

import math
from statistics import fmean, pstdev

from common import TESTBED, read_rows, write_rows

VOTERS = ("darkness", "match", "flat")


def chance(scores):
    """Share of the voters that prefer the first picture; equal scores count half."""
    votes = [scores[name] for name in VOTERS]
    return sum(1.0 if w > l else 0.5 * (w == l) for w, l in votes) / len(votes)


def sides(c):
    """Chances of winner and loser."""
    return [round(c, 4), round(1 - c, 4)]


def strengths(rows):
    """Strength of every row. The second tenth by the mean is ambiguous, and so is the first where its mean is not below 0."""
    spread = {name: pstdev([x for row in rows for x in row["scores"][name]]) for name in VOTERS}
    found = []
    for row in rows:
        differences = [(row["scores"][name][0] - row["scores"][name][1]) / spread[name] for name in VOTERS]
        found.append({"mean": round(fmean(differences), 4), "std": round(pstdev(differences), 4)})
    order = sorted(range(len(rows)), key=lambda index: found[index]["mean"])
    for place, index in enumerate(order):
        mislabelled = 10 * place < len(rows) and found[index]["mean"] < 0
        if 10 * place < 2 * len(rows) and not mislabelled:
            found[index]["soft_label"] = round(1 / (1 + math.exp(-found[index]["mean"])), 4)
    return found


def main():
    rows = list(read_rows(TESTBED / "pairs-drawings.jsonl"))
    chances = [chance(row["scores"]) for row in rows]
    made = []
    for row, c, strength in zip(rows, chances, strengths(rows)):
        kept = {key: row[key] for key in ("id", "prompt", "winner", "loser")}
        scores = {"confidence": sides(c), "mean_confidence": sides(fmean(chances))}
        made.append(kept | {"scores": scores, "strength": strength})
    write_rows(TESTBED / "pairs-confidence.jsonl", made)


if __name__ == "__main__":
    main()
