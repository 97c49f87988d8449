#!/usr/bin/env python3
"""Makes tests/golden/agreement.json: Kendall's tau-b and Pearson's correlation by scipy 1.17.1.

Usage: make_agreement.py
"""

import json
import math
from pathlib import Path

import numpy
from scipy.stats import kendalltau, pearsonr

random = numpy.random.default_rng(5)
cases = [
    ([1, 2, 3], [1, 2, 3]),
    ([1, 2, 3, 4], [4, 3, 2, 1]),
    ([1, 1, 2, 2, 3], [1, 2, 2, 2, 1]),
    ([0.4, 0.1, 0.9, 0.3], [0.2, 0.3, 0.8, 0.1]),
    ([1, 1, 1], [1, 2, 3]),
    (random.normal(size=40).round(3).tolist(), random.normal(size=40).round(3).tolist()),
    (random.integers(0, 4, 50).tolist(), random.integers(0, 5, 50).tolist()),
]
rows = []
for x, y in cases:
    constant = len(set(x)) == 1 or len(set(y)) == 1
    tau = kendalltau(x, y).statistic
    r = None if constant else float(pearsonr(x, y).statistic)
    rows.append({"x": x, "y": y, "tau_b": None if math.isnan(tau) else float(tau), "pearson": r})
path = Path(__file__).resolve().parent / "agreement.json"
path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
