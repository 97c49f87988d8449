#!/usr/bin/env python3
"""A vision language model as a judge: a rubric of yes/no questions for "score", and "which is better" for "compare".

It asks a server with the chat completions interface (vLLM, SGLang, llama.cpp, ..), whose address is in VLM_URL and whose model is in
VLM_MODEL. NOT RUN against a model for this repository; tests run it against a stand-in server.

    VLM_URL=http://localhost:9000/v1 VLM_MODEL=Qwen/Qwen2.5-VL-7B-Instruct \\
        diffpref score pictures --scorer "command=python3 docs/examples/vlm_judge.py" --out scored
"""

import base64
import json
import os
import re
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scorer_protocol import png, serve

# (weight, question): the score is sum of weights answered yes / sum of weights.
RUBRIC = [
    (2.0, "Does the picture show everything that the description asks for?"),
    (1.0, "Are shapes, faces and hands free of errors?"),
    (1.0, "Is the picture sharp, without noise or artefacts?"),
    (1.0, "Is the composition pleasant?"),
]
DESCRIPTION = {
    "name": "vlm-judge",
    "version": "1 " + os.environ.get("VLM_MODEL", ""),
    "measures": [{"name": "rubric", "min": 0, "max": 1, "better": "higher", "scope": "prompt"}],
    "batch": 1,
}


def ask(text, *pictures):
    """The model's answer to a text and pictures, at temperature 0."""
    content = [{"type": "text", "text": text}]
    for picture in pictures:
        url = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
        content.append({"type": "image_url", "image_url": {"url": url}})
    body = {
        "model": os.environ["VLM_MODEL"],
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 512,
    }
    request = urllib.request.Request(
        os.environ["VLM_URL"].rstrip("/") + "/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def score(items, timestep):
    def rubric(item):
        met = 0.0
        for weight, question in RUBRIC:
            text = f"Description: {item['prompt']}\n{question} Answer with yes or no."
            met += weight * ask(text, item["picture"]).strip().lower().startswith("yes")
        return [met / sum(weight for weight, _ in RUBRIC)]

    return [rubric(item) for item in items]


def compare(items):
    """1, 0, or 0.5 where the answer cannot be read."""

    def one(item):
        text = (
            f"Description: {item['prompt']}\nWhich picture fits the description better and looks better? "
            "End with <answer>Image 1 is better</answer> or <answer>Image 2 is better</answer>."
        )
        found = re.findall(r"<answer>\s*Image ([12]) is better", ask(text, item["first"], item["second"]))
        return {"1": 1.0, "2": 0.0}[found[-1]] if found else 0.5

    return [one(item) for item in items]


if __name__ == "__main__":
    serve(DESCRIPTION, score, compare)
