"""Make the preference data of the test bed, in assets/testbed. No learned judge; names held out are in none of it.

| file | rows |
|---|---|
| pairs-drawings.jsonl | composed drawings of a name; the winner's ground is darker by DRAWN_GAP or more |
| pairs-dimensions.jsonl | every second of these, with `labels` by darkness and by flatness |
| pairs-style.jsonl | composed drawings; a flat style wins over a shaded one on a ground of the same luma |
| pairs-conflict.jsonl | one dark and shaded, one light and flat: `darkness` and `flat` disagree, and so do two users |
| samples.jsonl | every sample of the model in samples/: seed, darkness, style, and whether its content is right |
| pairs-samples.jsonl | samples of a name, both with the right content; the darker wins, by SAMPLED_GAP or more |
| ties.jsonl | the same without a least gap; a gap below TIE_GAP is a tie |
| lists.jsonl | four samples of a name with their darkness |
| labels.jsonl | samples; the darkest third is desirable, the lightest third is not, the rest is left out |
| labelled-by.json | which of these files follow NIMA |
| pairs-samples-KIND, lists-KIND, labels-KIND | the same by `flat` (KIND is style) and by `nima` |

| score | value, higher is better |
|---|---|
| darkness | 1 - border luma |
| match | minus the off-manifold distance |
| flat | distance to the nearest shaded drawing minus that to the nearest flat one, root mean square at 32 x 32 |
| nima | mean of NIMA's histogram, from `diffpref score` of samples/ and pictures/ (make.sh); absent without --nima |

Usage: preferences.py [--keep-samples] [--nima SCORES.jsonl ..] [--threads N]      after train_unet.py
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from check import load_pipeline, sample
from common import MODEL, STYLES, TESTBED, names, read_rows, sprites, to_image, to_tensor, write_rows
from compose import LUMA_RANGE, compose, draw_factors
from judging import CHUNK, SMALL, Judge, ground_of
from PIL import Image

FLAT = ("fluent-flat", "twemoji", "emojione")
SHADED = tuple(style for style in STYLES if style not in FLAT)
DRAWN_PAIRS, STYLE_PAIRS, CONFLICT_PAIRS = 12, 2, 4
USERS = ("dark", "flat")
NIMA = TESTBED.parent / "scorers/nima/model.safetensors"
SAMPLES = 12
STEPS, SCALE = 20, 4.0
# Far from the seeds of an evaluation, which count from 0.
FIRST_SEED = 100_000
DRAWN_GAP, TIE_GAP = 0.25, 0.1
# Least gap of pairs of samples, about one standard deviation within a name; and the names of their files.
SAMPLED_GAP = {"darkness": 0.2, "flat": 0.01, "nima": 0.15}
SUFFIX = {"darkness": "", "flat": "-style", "nima": "-nima"}
LIST = 4
# Of the histogram of a pair's commonness.
BINS = 4


def save(picture, file):
    """Write a picture [3, 64, 64] without loss."""
    path = TESTBED / file
    path.parent.mkdir(parents=True, exist_ok=True)
    to_image(picture).save(path, "WEBP", lossless=True, quality=100, method=6)


class Scorer:
    """Scores of pictures (see above), and their verdicts."""

    def __init__(self, nima):
        """`nima`: mean by file name; empty before `diffpref score` ran."""
        self.judge, self.nima = Judge(), nima
        flat = torch.tensor([style in FLAT for style in STYLES])
        self.flat = flat.repeat_interleave(self.judge.names * self.judge.per_name)

    def flatness(self, pictures):
        """The score `flat`, [N]."""
        parts = []
        for part in pictures.split(CHUNK):
            distances = self.judge.distances(part, ground_of(part)).div(3 * SMALL**2).clamp(min=0).sqrt()
            parts.append(distances[:, ~self.flat].amin(1) - distances[:, self.flat].amin(1))
        return torch.cat(parts)

    def rows(self, files):
        """One row per picture file: scores, style, class of the name."""
        pictures = torch.stack([to_tensor(Image.open(TESTBED / file)) for file in files])
        verdict, styles = self.judge(pictures), list(STYLES)
        values = zip((1 - verdict.luma).tolist(), (-verdict.off_manifold).tolist(), self.flatness(pictures).tolist(),
                     verdict.style.tolist(), verdict.name.tolist())
        return {file: {"darkness": round(dark, 4), "match": round(match, 4), "flat": round(flat, 4),
                       "style": styles[style], "name": name} | self.nima_of(file)
                for file, (dark, match, flat, style, name) in zip(files, values)}


    def nima_of(self, file):
        """{"nima": mean}, or nothing where no picture was scored."""
        return {"nima": self.nima[Path(file).name]} if self.nima else {}


def nima_means(files):
    """NIMA's mean by name of the picture's file, from scores.jsonl of `diffpref score`."""
    rows = [row for file in files for row in read_rows(file)]
    return {Path(row["picture"]).name: round(row["scores"]["nima"]["mean"], 4) for row in rows}


def scores_of(rows, scorers=("darkness", "match", "flat", "nima")):
    """{scorer: [score per picture]}, of the scores that the rows have."""
    return {name: [row[name] for row in rows] for name in scorers if name in rows[0]}


def two_lumas(generator):
    """Lumas of a darker and a lighter ground, DRAWN_GAP or more apart, uniform otherwise."""
    low, high = LUMA_RANGE
    while True:
        one, two = sorted((low + (high - low) * torch.rand(2, generator=generator)).tolist())
        if two - one >= DRAWN_GAP + 0.01:
            return one, two


def drawn_pairs(rows, classes, generator):
    """Write the pictures of pairs-drawings.jsonl; (name row, winner's file, loser's file) per pair."""
    drawings = sprites()
    for row, index in zip(rows, classes):
        for pair in range(DRAWN_PAIRS):
            files = [f"pictures/{row['slug']}-{pair}-{end}.webp" for end in ("dark", "light")]
            for file, luma in zip(files, two_lumas(generator)):
                style = torch.randint(len(drawings), (1,), generator=generator).item()
                save(compose(drawings[style][index], draw_factors(generator, luma)), file)
            yield row, *files


def conflict_pairs(rows, classes, generator):
    """Write the pictures of pairs-conflict.jsonl; (name row, dark and shaded file, light and flat file) per pair."""
    drawings = dict(zip(STYLES, sprites()))
    for row, index in zip(rows, classes):
        for pair in range(CONFLICT_PAIRS):
            files = [f"pictures/{row['slug']}-{pair}-{end}.webp" for end in ("dark-shaded", "light-flat")]
            for file, luma, group in zip(files, two_lumas(generator), (SHADED, FLAT)):
                style = group[torch.randint(len(group), (1,), generator=generator).item()]
                save(compose(drawings[style][index], draw_factors(generator, luma)), file)
            yield row, *files


def of_users(rows):
    """Rows with `user`, in turn; the second user's winner is the flat picture."""
    result = []
    for number, row in enumerate(rows):
        user = USERS[number % len(USERS)]
        if user == "flat":
            scores = {name: values[::-1] for name, values in row["scores"].items()}
            row = row | {"winner": row["loser"], "loser": row["winner"], "scores": scores}
        result.append(row | {"user": user})
    return result


def style_pairs(rows, classes, generator):
    """Write the pictures of pairs-style.jsonl; (name row, winner's file, loser's file) per pair."""
    drawings = dict(zip(STYLES, sprites()))
    groups = [FLAT, SHADED]
    low, high = LUMA_RANGE
    for row, index in zip(rows, classes):
        for pair in range(STYLE_PAIRS):
            luma = low + (high - low) * torch.rand(1, generator=generator).item()
            files = [f"pictures/{row['slug']}-{pair}-{end}.webp" for end in ("flat", "shaded")]
            for file, group in zip(files, groups):
                style = group[torch.randint(len(group), (1,), generator=generator).item()]
                save(compose(drawings[style][index], draw_factors(generator, luma)), file)
            yield row, *files


def pair_rows(found, scorer):
    """Rows of a file of pairs, from (name row, winner's file, loser's file)."""
    scored = scorer.rows([file for _, *files in found for file in files])
    numbers, result = {}, []
    for row, winner, loser in found:
        number = numbers[row["slug"]] = numbers.get(row["slug"], -1) + 1
        result.append({"id": f"{row['slug']}-{number}", "prompt": row["prompt"], "winner": winner, "loser": loser,
                       "scores": scores_of([scored[winner], scored[loser]])})
    return result


def with_weights(rows):
    """Rows with `weight`: VideoDPO's product of histogram probabilities of both pictures' darkness, in BINS bins."""
    bins = [[min(int(value * BINS), BINS - 1) for value in row["scores"]["darkness"]] for row in rows]
    every = [place for both in bins for place in both]
    share = {place: every.count(place) / len(every) for place in every}
    return [row | {"weight": round(share[w] * share[l], 6)} for row, (w, l) in zip(rows, bins)]


def sample_file(row, index):
    """Path of sample `index` of a name, relative to the data."""
    return f"samples/{row['slug']}-{index}.webp"


def sample_seed(one, index):
    """Seed of sample `index` of name class `one`."""
    return FIRST_SEED + SAMPLES * one + index


def paint(rows, classes):
    """Paint the SAMPLES pictures of every row into samples/."""
    prompts = [row["prompt"] for row in rows for _ in range(SAMPLES)]
    seeds = [sample_seed(one, index) for one in classes for index in range(SAMPLES)]
    files = [sample_file(row, index) for row in rows for index in range(SAMPLES)]
    for file, picture in zip(files, sample(load_pipeline(MODEL), prompts, seeds, STEPS, SCALE)):
        save(picture, file)


def sample_rows(rows, classes, scorer):
    """Rows of samples.jsonl."""
    scored = scorer.rows([sample_file(row, index) for row in rows for index in range(SAMPLES)])
    return [{"id": f"{row['slug']}-{index}", "prompt": row["prompt"], "image": (file := sample_file(row, index)),
             "seed": sample_seed(one, index), "content": scored[file]["name"] == one,
             **{key: scored[file][key] for key in ("style", "darkness", "match", "flat", "nima") if key in scored[file]}}
            for row, one in zip(rows, classes) for index in range(SAMPLES)]


def right_by_name(samples, scorer):
    """Samples with the right content by prompt, the best by `scorer` first."""
    groups = {}
    for row in samples:
        if row["content"]:
            groups.setdefault(row["prompt"], []).append(row)
    return {prompt: sorted(group, key=lambda row: -row[scorer]) for prompt, group in groups.items()}


def outside_in(groups):
    """Two by two from the outside in: (better, worse) samples of a name."""
    return [(group[rank], group[-1 - rank]) for group in groups.values() for rank in range(len(group) // 2)]


def sampled_pairs(couples, scorer, tie_gap=0.0):
    """Rows of (better, worse) samples by `scorer`, labelled `tie` where the gap is below `tie_gap`."""
    result = []
    for best, worst in couples:
        row = {"id": f"{best['id']}-{worst['id'].rsplit('-', 1)[1]}", "prompt": best["prompt"],
               "winner": best["image"], "loser": worst["image"]}
        if best[scorer] - worst[scorer] < tie_gap:
            row["label"] = "tie"
        result.append({**row, "scores": scores_of([best, worst])})
    return result


def far_apart(couples, scorer):
    """Pairs of samples whose gap by `scorer` is SAMPLED_GAP or more."""
    far = [(best, worst) for best, worst in couples if best[scorer] - worst[scorer] >= SAMPLED_GAP[scorer]]
    return sampled_pairs(far, scorer)


def lists(groups, scorer):
    """Rows of lists: a name's samples in lists of LIST, each over the whole range of `scorer`."""
    result = []
    for prompt, group in groups.items():
        count = len(group) // LIST
        for first in range(count):
            part = sorted((group[first::count])[:LIST], key=lambda row: row["id"])
            result.append({"id": f"{part[0]['id'].rsplit('-', 1)[0]}-{first}", "prompt": prompt,
                           "images": [row["image"] for row in part], "scores": scores_of(part, (scorer,))})
    return result


def labels(groups, scorer):
    """Rows of labels: the best and the worst third by `scorer`."""
    every = [row for group in groups.values() for row in group]
    ranked = sorted(every, key=lambda row: -row[scorer])
    third = len(ranked) // 3
    marked = [(row, True) for row in ranked[:third]] + [(row, False) for row in ranked[-third:]]
    return [{"id": row["id"], "prompt": row["prompt"], "image": row["image"], "label": label}
            for row, label in sorted(marked, key=lambda both: both[0]["id"])]


def dimension_rows(pairs):
    """Rows of pairs-dimensions.jsonl: who wins in which dimension."""
    better = lambda scores: 0.5 if scores[0] == scores[1] else float(scores[0] > scores[1])
    return [{**{key: row[key] for key in ("id", "prompt", "winner", "loser")},
             "labels": {name: better(row["scores"][name]) for name in ("darkness", "flat")}} for row in pairs[::2]]


def write_prompts(every):
    """prompts.txt and prompts-heldout.txt."""
    for name, held_out in (("prompts.txt", False), ("prompts-heldout.txt", True)):
        lines = [row["prompt"] + "\n" for row in every if row["held_out"] == held_out]
        (TESTBED / name).write_text("".join(lines), encoding="utf-8")


def write_labelled_by():
    """Write labelled-by.json: the files whose labels or scores are NIMA's."""
    digest = hashlib.sha256(NIMA.read_bytes()).hexdigest()
    files = {path.name: {"label": "nima" if path.stem.endswith(SUFFIX["nima"]) else None, "scores": {"nima": "nima"}}
             for path in sorted(TESTBED.glob("*.jsonl")) if path.stem.startswith(("pairs", "lists", "labels", "ties"))}
    content = {"judges": {"nima": {"weights_sha256": digest}}, "files": files}
    (TESTBED / "labelled-by.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main():
    """Compose, paint, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep-samples", action="store_true", help="score the existing samples")
    parser.add_argument("--nima", nargs="+", default=[], metavar="SCORES.jsonl", help="ratings by NIMA")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    every = names()
    write_prompts(every)
    classes = [index for index, row in enumerate(every) if not row["held_out"]]
    rows = [every[index] for index in classes]
    scorer = Scorer(nima_means(options.nima))
    for name, make, seed in (("pairs-drawings", drawn_pairs, 5), ("pairs-style", style_pairs, 6)):
        generator = torch.Generator().manual_seed(seed)
        pairs = with_weights(pair_rows(list(make(rows, classes, generator)), scorer))
        write_rows(TESTBED / f"{name}.jsonl", pairs)
    write_rows(TESTBED / "pairs-dimensions.jsonl", dimension_rows(read_rows(TESTBED / "pairs-drawings.jsonl")))
    pairs = pair_rows(list(conflict_pairs(rows, classes, torch.Generator().manual_seed(7))), scorer)
    write_rows(TESTBED / "pairs-conflict.jsonl", of_users(pairs))
    if not options.keep_samples:
        paint(rows, classes)
    samples = sample_rows(rows, classes, scorer)
    written = {"samples": samples}
    for score, suffix in SUFFIX.items():
        if score in samples[0]:
            groups = right_by_name(samples, score)
            pairs = far_apart(outside_in(groups), score)
            written |= {f"pairs-samples{suffix}": with_weights(pairs) if score == "darkness" else pairs,
                        f"lists{suffix}": lists(groups, score), f"labels{suffix}": labels(groups, score)}
    written["ties"] = sampled_pairs(outside_in(right_by_name(samples, "darkness")), "darkness", TIE_GAP)
    for name, content in written.items():
        write_rows(TESTBED / f"{name}.jsonl", content)
    if options.nima:
        write_labelled_by()
    print(json.dumps({name: len(read_rows(path)) for path in sorted(Path(TESTBED).glob("*.jsonl"))
                      for name in [path.name]}))


if __name__ == "__main__":
    main()
