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
    files = [f"{index:04}-{seed}.png" for index in range(len(names)) for seed in range(int(of("--seeds")[0]))]
    for album, flat in (("before", 0.1), ("after", 0.9)):
        (out / "pictures" / album).mkdir(exist_ok=True)
        said = {file: {"flat": flat, "name": names[int(file[:4])]} for file in files}
        (out / "pictures" / album / "judged-trained-1.json").write_text(json.dumps(said))
    measures = {"flat_share": {"models": [{"mean": 0}, {"mean": 1}]}, "content_accuracy": {"models": [{"mean": 1}, {"mean": 1}]}}
    evaluation = {"models": [{"pictures": "pictures/before"}, {"pictures": "pictures/after"}], "settings": {}}
    evaluation["judges"] = [{"judge": "trained", "accuracy": {}, **measures}]
    (out / "eval.json").write_text(json.dumps(evaluation))


{"train": train, "eval": evaluate}[command]()
