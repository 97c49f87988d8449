#!/usr/bin/env python3
"""Writes a synthetic data set in the layout of Pick-a-Pic: make_parquet.py OUT [ROWS] [BYTES_PER_IMAGE]. Needs pyarrow.

Images are random bytes: they are as large as JPEGs and compress as badly. Readers of rows never look at them.
"""

import os
import random
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT, ROWS, BYTES = Path(sys.argv[1]), int(sys.argv[2] if len(sys.argv) > 2 else 200_000), int(sys.argv[3] if len(sys.argv) > 3 else 20_000)
PER_FILE, PER_GROUP = 10_000, 500

OUT.mkdir(parents=True, exist_ok=True)
draw = random.Random(0)
files = (ROWS + PER_FILE - 1) // PER_FILE
for number in range(files):
    writer = None
    path = OUT / f"train-{number:05d}-of-{files:05d}.parquet"
    for start in range(number * PER_FILE, min(ROWS, (number + 1) * PER_FILE), PER_GROUP):
        rows = []
        for i in range(start, min(ROWS, start + PER_GROUP)):
            label = draw.choice([0.0, 1.0, 1.0, 0.5])
            rows.append({
                "caption": f"a picture of number {i % 14_000}, highly detailed, by a painter of the {i % 19}th century",
                "jpg_0": os.urandom(BYTES), "jpg_1": os.urandom(BYTES), "label_0": label, "label_1": 1 - label,
                "has_label": True, "user_id": i % 4_000, "ranking_id": i, "num_example_per_prompt": 15,
                "model_0": "CompVis/stable-diffusion-v1-4", "model_1": "stabilityai/stable-diffusion-xl",
            })
        table = pa.Table.from_pylist(rows)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()
