#!/usr/bin/env python3
"""Table of the measurements of benches/generate.sh.

    generate_table.py pictures FOLDER CASE ROUND    when each picture of a round was written, from the files' own times
    generate_table.py table FOLDER                  the comparison as Markdown
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def pictures(case, number):
    for side in ("ours", "theirs"):
        record = work / f"{case}-{side}-{number}.json"
        measured = json.loads(record.read_text())
        ends = sorted(path.stat().st_mtime for path in (work / side).glob("*.png"))
        # The record was written when the process had ended: its start is its own time less the wall time.
        start = record.stat().st_mtime - measured["wall_s"]
        measured |= {"pictures": len(ends), "first_s": ends[0] - start, "last_s": ends[-1] - start}
        record.write_text(json.dumps(measured))


def rows(case, title):
    def rounds(side):
        return [json.loads(path.read_text()) for path in sorted(work.glob(f"{case}-{side}-*.json"))]

    def both(name, value, digits):
        sides = [statistics.median(value(r) for r in rounds(side)) for side in ("ours", "theirs")]
        print(f"| {title}: {name} | {sides[0]:.{digits}f} | {sides[1]:.{digits}f} |")

    both("pictures per minute, start included", lambda r: 60 * r["pictures"] / r["last_s"], 1)
    both("pictures per minute after the first batch", lambda r: 60 * (r["pictures"] - batch[case]) / (r["last_s"] - r["first_s"]), 1)
    both("from start to the first picture (s)", lambda r: r["first_s"], 1)
    both("processor time, all of it (s)", lambda r: r["cpu_s"], 1)
    both("peak resident memory (GiB)", lambda r: r["peak_gib"], 2)


work = Path(sys.argv[2])
batch = {"demo": 8, "sd15": 1}
if sys.argv[1] == "pictures":
    pictures(sys.argv[3], sys.argv[4])
    sys.exit()
peer = json.loads((work / "peer.json").read_text())
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
first = json.loads((work / "demo-ours-1.json").read_text())["pictures"]
second = json.loads((work / "sd15-ours-1.json").read_text())["pictures"]
rounds = len(list(work.glob("sd15-ours-*.json")))
print(f"""
## {datetime.date.today()}: pictures from prompts, float32, guidance 7.5, the model's own sampler (PNDM)

{processor()}, {os.cpu_count()} cores; {peer["threads"]} threads; load {os.getloadavg()[2]:.1f}; diffpref {commit or "uncommitted"}; {versions}; medians of {rounds} rounds, turn by turn.
Demo model: {first} pictures of 64 px, 10 steps, 8 at once. SD1.5 size: {second} pictures of 256 px, {os.environ.get("SD15_STEPS", "2")} steps, one at once.

| | diffpref | Python |
|---|---|---|""")
rows("demo", "demo")
rows("sd15", "SD1.5 size")
if (work / "negative-unet.json").is_file():
    peak = {n: json.loads((work / f"negative-{n}.json").read_text())["peak_gib"] for n in ("none", "loras", "unet")}
    print(f"""
Peak memory at SD1.5 size, 256 px, of a negative side: none {peak["none"]:.2f} GiB; LoRAs of rank 8 on both sides, one UNet {peak["loras"]:.2f} GiB;
a UNet of its own {peak["unet"]:.2f} GiB.""")
