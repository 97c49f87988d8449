#!/usr/bin/env python3
"""Table of the measurements of benches/train_sd15.sh in Markdown: table.py FOLDER."""

import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def read(name):
    return json.loads((work / name).read_text())


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


work = Path(sys.argv[1])
ours, theirs, peer = read("diffpref.json"), read("python.json"), read("python_step.json")
lines = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
seconds = statistics.median(line["s_per_step"] for line in lines)
# What is not steps: loading, encoding what the steps read (once a run, or once for ever), and writing final/.
rest = ours["wall_s"] - sum(line["s_per_step"] for line in lines)
rest_theirs = theirs["wall_s"] - sum(peer["steps"])
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
print(f"""
## {datetime.date.today()}: DPO, LoRA rank 8, SD1.5 size, 256 px, one pair per step, float32

{processor()}, {os.cpu_count()} cores; {peer["threads"]} threads; diffpref {commit or "uncommitted"}; {versions}; {len(lines)} steps each, medians.

| | diffpref | Python |
|---|---|---|
| s/step | {seconds:.1f} | {peer["s_per_step"]:.1f} |
| of it encoding | 0 | {peer["encode_s"]:.1f} |
| outside the steps: loading, encoding, saving (s) | {rest:.1f} | {rest_theirs:.1f} |
| peak resident memory (GiB) | {ours["peak_gib"]:.2f} | {peer["peak_gib"]:.2f} |

Python takes {peer["s_per_step"] / seconds:.2f} times as long per step.""")
