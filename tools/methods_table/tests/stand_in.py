"""A stand-in for diffpref: writes what the table reads, and says in `calls` how it was called."""

import json
import sys
import time
from pathlib import Path

command, arguments = sys.argv[1], sys.argv[2:]
with open("calls", "a", encoding="utf-8") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")


def of(option):
    return [arguments[index + 1] for index, word in enumerate(arguments) if word == option]


def train():
    recipe = Path(arguments[0]).read_text(encoding="utf-8")
    if "fail" in recipe:
        sys.exit("step 1/4\nError: the loss is not finite\n  at step 2")
    out = Path(next(text for text in of("--set") if text.startswith("train.out=")).partition("=")[2])
    out.mkdir(parents=True, exist_ok=True)
    (out / "resolved.toml").write_text("[train]\nmicro_batch = 8\ngrad_accum = 2\n")
    if "wait" in recipe:
        print("waiting", flush=True)
        time.sleep(60)
    (out / "metrics.jsonl").write_text(json.dumps({"step": 4, "s_per_step": 0.5, "val_gap_w": 0.001}) + "\n")


def evaluate():
    out = Path(of("--out")[0])
    names = [json.loads(line)["prompt"] for line in Path(of("--prompts")[0]).read_text().splitlines()]
    rows = []
    for model, dark in (("before", 0.2), ("after", 0.8)):
        (out / "pictures" / model).mkdir(exist_ok=True)
        (out / "pictures" / model / "index.jsonl").write_text("")
        nearest = {"content_accuracy": 1.0, "off_manifold": 0.1}
        scores = {"background": {"darkness": dark}, "nearest_drawing": nearest}
        seeds = range(int(of("--seeds")[0]))
        rows += [{"model": model, "prompt": name, "seed": seed, "scores": scores} for name in names for seed in seeds]
    (out / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    measure = {"name": "darkness", "groups": {"all": {"best_third": {"threshold": 0.6}}}}
    scorers = [{"name": "background", "measures": [measure]}]
    evaluation = {"models": [{"name": "before"}, {"name": "after"}], "scorers": scorers, "settings": {}, "warnings": []}
    (out / "eval.json").write_text(json.dumps(evaluation))


{"train": train, "eval": evaluate}[command]()
