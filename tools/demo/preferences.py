"""Write the demo's preference data: every kind of row that a method may need, from drawings and samples.

Reads names.jsonl and drawings/, paints `samples/` with the demo model, scores all of them with a judge,
and writes beside names.jsonl:

pairs.jsonl     a training name's flat drawing as winner against its shaded one; scores of both, and as
                `weight` how common such a pair is, for videodpo
lists.jsonl     the four samples of every second training name, with scores
ties.jsonl      the flattest sample of a list against the least flat, and the two between; a tie where
                their style differs by less than TIE_WIDTH
labels.jsonl    drawings and samples one by one: desirable if flat and showing the name
prompts.txt     the training names; prompts-heldout.txt: the others
labelled-by.json  which judge the labels and scores come from

Three scores, higher is better:
style    the judge's log-odds of flat against shaded
content the judge's log-probability of the intended name
nearest  how much nearer, in the latents of the VAE, the nearest flat drawing is than the nearest shaded
         one; of a drawing itself those of its own name do not count, or it would be its own nearest

Usage: preferences.py [--judge FOLDER] [--keep-samples] [--threads N]      after train_judge.py
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from check import latents_of, load_pipeline, sample
from common import EMOJI, ROOT, STYLES, drawings, names, to_image, to_tensor, write_rows
from judge import load_judge
from PIL import Image

SAMPLES = 4
STEPS, SCALE = 15, 7.5
# Far from the seeds of an evaluation, which count from 0.
FIRST_SEED = 100_000
# Log-odds. Two samples whose style differs by less are a tie.
TIE_WIDTH = 1.0
# Of the histogram of a pair's commonness.
BINS = 4
FLAT = STYLES.index("flat")


class Scorer:
    """Scores pictures: a trained judge, and the nearest drawings in the latents of a VAE."""

    def __init__(self, judge, vae):
        self.judge, self.vae = judge, vae
        self.references = torch.stack([latents_of(vae, part) for part in drawings()])  # [2, names, D]

    @torch.no_grad()
    def scores(self, images, wanted, drawn=False):
        """One {scorer: score} per picture, and one flag per picture: desirable.

        `images` [N, 3, 64, 64], `wanted` [N] the intended name classes; `drawn`: they are drawings.
        """
        style, content = self.judge(images)
        odds = style.double().log_softmax(1)
        odds = odds[:, FLAT] - odds[:, 1 - FLAT]
        named = content.double().log_softmax(1).gather(1, wanted[:, None])[:, 0]
        distances = torch.cdist(latents_of(self.vae, images)[None], self.references)  # [2, N, names]
        if drawn:
            distances[:, torch.arange(len(wanted)), wanted] = torch.inf
        nearest = distances.amin(2)
        nearer = nearest[1 - FLAT] - nearest[FLAT]
        rows = [{"style": round(s, 4), "content": round(c, 4), "nearest": round(n, 4)}
                for s, c, n in zip(odds.tolist(), named.tolist(), nearer.tolist())]
        return rows, ((odds > 0) & (content.argmax(1) == wanted)).tolist()


def joined(rows):
    """{scorer: [score per picture]} of several pictures."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def sample_file(row, index):
    """Path of sample `index` of a name, relative to the data."""
    return f"samples/{row['slug']}-{index}.png"


def paint(pipeline, rows, classes):
    """Paint the SAMPLES pictures of every row into samples/."""
    prompts = [row["prompt"] for row in rows for _ in range(SAMPLES)]
    seeds = [FIRST_SEED + SAMPLES * one + index for one in classes for index in range(SAMPLES)]
    files = [sample_file(row, index) for row in rows for index in range(SAMPLES)]
    (EMOJI / "samples").mkdir(exist_ok=True)
    for file, picture in zip(files, sample(pipeline, prompts, seeds, STEPS, SCALE)):
        to_image(picture).save(EMOJI / file, optimize=True)


def pairs(rows, classes, scorer):
    """The drawings of each name as a pair."""
    flat, shaded = (scorer.scores(part[classes], torch.tensor(classes), drawn=True)[0]
                    for part in drawings())
    made = [{"id": row["slug"], "prompt": row["prompt"], "winner": f"drawings/flat/{row['slug']}.png",
             "loser": f"drawings/shaded/{row['slug']}.png", "scores": joined(both)}
            for row, *both in zip(rows, flat, shaded)]
    return [row | {"weight": weight} for row, weight in zip(made, commonness(made))]


def commonness(rows):
    """Frequency of each pair: the share of all pictures whose `nearest` falls into the same of BINS bins as the
    winner's, times that of the loser's (VideoDPO's product of histogram probabilities)."""
    scores = [row["scores"]["nearest"] for row in rows]
    low, high = (pick(value for both in scores for value in both) for pick in (min, max))
    bins = [[min(int((value - low) / (high - low) * BINS), BINS - 1) for value in both] for both in scores]
    every = [place for both in bins for place in both]
    share = {place: every.count(place) / len(every) for place in every}
    return [round(share[w] * share[l], 6) for w, l in bins]


def ties(lists):
    """Samples two by two from the outside in, the flatter one as winner unless they are about equal."""
    result = []
    for row in lists:
        order = sorted(range(SAMPLES), key=lambda i: -row["scores"]["style"][i])
        for rank in range(SAMPLES // 2):
            two = (order[rank], order[-1 - rank])
            scores = {name: [values[i] for i in two] for name, values in row["scores"].items()}
            pair = {"id": f"{row['id']}-{rank}", "prompt": row["prompt"],
                    "winner": row["images"][two[0]], "loser": row["images"][two[1]]}
            if scores["style"][0] - scores["style"][1] < TIE_WIDTH:
                pair["label"] = "tie"
            result.append({**pair, "scores": scores})
    return result


def labels(rows, lists, desirable):
    """Drawings and samples one by one; `desirable` has a flag for each image of the lists."""
    drawn = [{"id": f"{row['slug']}-{style}", "prompt": row["prompt"],
              "image": f"drawings/{style}/{row['slug']}.png", "label": style == STYLES[FLAT]}
             for row in rows for style in STYLES]
    samples = [{"id": f"{row['id']}-{index}", "prompt": row["prompt"], "image": image, "label": label}
               for row, flags in zip(lists, desirable)
               for index, (image, label) in enumerate(zip(row["images"], flags))]
    return drawn + samples


def provenance(judge):
    """Content of labelled-by.json: the judge behind the labels and the scores of every file."""
    weights = hashlib.sha256((judge / "model.safetensors").read_bytes()).hexdigest()
    scored = {"scores": {"style": judge.name, "content": judge.name}}
    labelled = {"label": judge.name}
    return {"judges": {judge.name: {"weights_sha256": weights}},
            "files": {"pairs.jsonl": scored, "lists.jsonl": labelled | scored, "ties.jsonl": labelled | scored,
                      "labels.jsonl": labelled}}


def disagreement(rows):
    """Share of pairs on which two labellers differ, for every two of the scorers and the given label."""
    def prefers(name):
        return [row["scores"][name][0] > row["scores"][name][1] for row in rows]

    opinions = {"given": [True] * len(rows)} | {name: prefers(name) for name in rows[0]["scores"]}
    keys = list(opinions)
    return {f"{one} / {other}": round(sum(map(bool.__ne__, opinions[one], opinions[other])) / len(rows), 3)
            for index, one in enumerate(keys) for other in keys[index + 1:]}


def report(written):
    """Print the disagreement of the scorers and the shares of ties and desirable images."""
    preferences = [row for row in written["ties.jsonl"] if row.get("label") != "tie"]
    print(json.dumps({"pairs": len(written["pairs.jsonl"]), **disagreement(written["pairs.jsonl"])}))
    print(json.dumps({"preferences among samples": len(preferences), **disagreement(preferences)}))
    print(json.dumps({"ties": round(1 - len(preferences) / len(written["ties.jsonl"]), 3),
                      "rows": len(written["ties.jsonl"])}))
    marked = [row["label"] for row in written["labels.jsonl"] if row["image"].startswith("samples/")]
    print(json.dumps({"desirable samples": round(sum(marked) / len(marked), 3), "samples": len(marked)}))


def main():
    """Paint, score, write, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, default=ROOT / "assets/judge-labels")
    parser.add_argument("--keep-samples", action="store_true", help="score the existing samples")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pipeline = load_pipeline(ROOT / "assets/demo-model")
    every = names()
    training = [index for index, row in enumerate(every) if not row["held_out"]]
    painted = training[::2]
    if not options.keep_samples:
        paint(pipeline, [every[index] for index in painted], painted)
    scorer = Scorer(load_judge(options.judge), pipeline.vae)
    lists, desirable = [], []
    for index in painted:
        files = [sample_file(every[index], i) for i in range(SAMPLES)]
        images = torch.stack([to_tensor(Image.open(EMOJI / file)) for file in files])
        scored, flags = scorer.scores(images, torch.full((SAMPLES,), index))
        desirable.append(flags)
        lists.append({"id": every[index]["slug"], "prompt": every[index]["prompt"], "images": files,
                      "scores": joined(scored)})
    rows = [every[index] for index in training]
    written = {"pairs.jsonl": pairs(rows, training, scorer), "lists.jsonl": lists,
               "ties.jsonl": ties(lists), "labels.jsonl": labels(rows, lists, desirable)}
    for name, content in written.items():
        write_rows(EMOJI / name, content)
    for name, held_out in (("prompts.txt", False), ("prompts-heldout.txt", True)):
        lines = [row["prompt"] + "\n" for row in every if row["held_out"] == held_out]
        (EMOJI / name).write_text("".join(lines), encoding="utf-8")
    text = json.dumps(provenance(options.judge.resolve()), indent=2) + "\n"
    (EMOJI / "labelled-by.json").write_text(text, encoding="utf-8")
    report(written)


if __name__ == "__main__":
    main()
