"""Train a judge on drawings and paintings (paintings.py), and state its accuracy.

Pictures are also blurred, noisy, or changed in colour. Both styles of a name are always in one batch, of the same
kind and moved and turned alike. Neither name nor origin is therefore correlated with the style.

A judge measures, so it may be trained on the names held out of the preferences: the written one is trained on the
style of all names. Generalisation of the style head to new names is measured (--twin) on a second judge, trained
without the style of those names.

Usage: train_judge.py WORK [--folder FOLDER] [--twin] [--seed N] [--steps N] [--threads N]
after train_unet.py: it needs assets/demo-model
"""

import argparse
import json
import time
from pathlib import Path

import torch
from check import load_pipeline
from common import ROOT, augment, drawings, names
from judge import CHANNELS, FOLDER, Judge, save_judge
from paintings import Shown, samples_of, shown_pictures
from safetensors.torch import save_file
from torch.nn import functional

BATCH = 32
DROPOUT = 0.3
FAITHFUL_SHARE = 0.5
SPOILT = 0.25
STYLE_OF_HALVES = torch.tensor([0, 1])
PEAK_RATE = 2e-3
REFIT_SEED, REFIT_ROUNDS, REFIT_STEPS, REFIT_DECAY = 7, 2, 200, 1e-6
# Samples of different judges, of their tests, of the preference data and of evaluations have seeds of their own.
SEEDS_A_JUDGE = 100_000_000
TEST_SEED, TEST_SAMPLES = 50_000_000, 3
GOLDEN = ROOT / "tests/golden/judge.safetensors"


def blurred(images, generator):
    """Each picture blurred by a Gaussian of its own width, up to 1.2 pixels."""
    sigma = torch.rand(len(images), 1, generator=generator) * 1.15 + 0.05
    offsets = torch.arange(-3, 4).float()
    kernel = torch.exp(-offsets.square() / (2 * sigma.square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = functional.pad(images.flatten(0, 1)[None], (3, 3, 3, 3), mode="replicate")
    count = len(kernel)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=count)
    return functional.conv2d(flat, kernel[:, None, :, None], groups=count)[0].view_as(images)


def colour_changed(images, generator):
    """Brightness, contrast, saturation and colour balance changed a little."""
    def factor(width, channels=1):
        shape = (len(images), channels, 1, 1)
        return 1 + (torch.rand(shape, generator=generator) * 2 - 1) * width

    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * factor(0.4)
    return (images * factor(0.2) * factor(0.12, 3) + factor(0.1) - 1).clamp(-1, 1)


def spoilt(images, generator):
    """Of the batch a random share of SPOILT blurred, as many with changed colours, as many noisy."""
    def some():
        return (torch.rand(len(images), generator=generator) < SPOILT).view(-1, 1, 1, 1)

    images = torch.where(some(), blurred(images, generator), images)
    images = torch.where(some(), colour_changed(images, generator), images)
    strength = torch.rand(len(images), 1, 1, 1, generator=generator) * 0.08
    noise = torch.randn(images.shape, generator=generator) * strength
    return torch.where(some(), images + noise, images).clamp(-1, 1)


def batch_of(shown, copies, picks, generator):
    """Both styles of the names `picks` in the copies `copies` ([N] each), augmented alike and each spoilt
    differently; of the result [2N, 3, 64, 64], the first half is flat."""
    pairs = shown.images[copies, :, picks].flatten(1, 2)
    pairs = augment(pairs, generator, flip=0.25, shift=0.05, scale=0.12, angle=0.08)
    return spoilt(torch.cat(pairs.split(3, 1)), generator)


def drawn_copies(shown, count, generator):
    """Index of the copy for each of `count` pictures: FAITHFUL_SHARE faithful ones, the others from the rest."""
    near = torch.randint(shown.faithful, (count,), generator=generator)
    far = torch.randint(shown.faithful, len(shown.images), (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < FAITHFUL_SHARE, near, far)


def train(shown, style_of, steps, generator):
    """A judge whose style head learns from the names in `style_of` ([names] bool), its content head from all.

    A third head, dropped at the end, classifies every single drawing. Without it the features learn names much faster
    than styles.
    """
    count = shown.images.shape[2]
    judge = Judge(CHANNELS, count).to(memory_format=torch.channels_last)
    drawing = torch.nn.Linear(judge.style.in_features, 2 * count)
    optimizer = torch.optim.AdamW([*judge.parameters(), *drawing.parameters()], lr=PEAK_RATE, weight_decay=0.05)
    start = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 50) * (1 - step / steps)
        picks = torch.randint(count, (BATCH // 2,), generator=generator)
        copies = drawn_copies(shown, len(picks), generator)
        batch = batch_of(shown, copies, picks, generator).contiguous(memory_format=torch.channels_last)
        features = judge.features(batch)
        style = judge.style(functional.dropout(features, DROPOUT))
        known = (style_of[picks] & shown.styled[copies, picks]).repeat(2)
        styles = STYLE_OF_HALVES.repeat_interleave(len(picks))
        style_loss = functional.cross_entropy(style[known], styles[known])
        content_loss = functional.cross_entropy(judge.content(features), picks.repeat(2), label_smoothing=0.05)
        which = styles * count + picks.repeat(2)
        drawing_loss = functional.cross_entropy(drawing(features)[known], which[known])
        optimizer.zero_grad()
        (style_loss + content_loss + drawing_loss).backward()
        optimizer.step()
        if step % 50 == 49:
            print(json.dumps({"step": step + 1, "style_loss": round(style_loss.item(), 4),
                              "content_loss": round(content_loss.item(), 4),
                              "s_per_step": round((time.time() - start) / (step + 1), 3)}), flush=True)
    judge = judge.eval().to(memory_format=torch.contiguous_format)
    refit_style(judge, shown, style_of)
    return judge


def refit_style(judge, shown, style_of):
    """Fit the style head to the finished features of all pictures of known style: the optimum of a convex problem,
    which training beside the moving features does not reach."""
    generator = torch.Generator().manual_seed(REFIT_SEED)
    features, styles = [], []
    for _ in range(REFIT_ROUNDS):
        for copy in range(len(shown.images)):
            known = (shown.styled[copy] & style_of).nonzero()[:, 0]
            images = batch_of(shown, torch.full_like(known, copy), known, generator)
            with torch.no_grad():
                features.append(judge.features(images))
            styles.append(STYLE_OF_HALVES.repeat_interleave(len(known)))
    features, styles = torch.cat(features), torch.cat(styles)
    head = judge.style
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=REFIT_STEPS, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(head(features), styles) + REFIT_DECAY * head.weight.square().sum()
        loss.backward()
        return loss

    first, last = optimizer.step(closure).item(), closure().item()
    print(json.dumps({"style_loss before and after the refit": [round(first, 4), round(last, 4)]}), flush=True)


@torch.no_grad()
def on_augmentations(judge, shown, generator):
    """Whether style and content of faithful copies, augmented again, are recognised: [rounds, 2, names] bool each."""
    count = shown.images.shape[2]
    style, content = [], []
    for _ in range(16):
        copies = torch.randint(shown.faithful, (count,), generator=generator)
        got_style, got_content = judge(batch_of(shown, copies, torch.arange(count), generator))
        style.append(got_style.argmax(1).view(2, count) == STYLE_OF_HALVES[:, None])
        content.append(got_content.argmax(1).view(2, count) == torch.arange(count))
    return torch.stack(style), torch.stack(content)


@torch.no_grad()
def on_samples(judge, pictures, styles):
    """Whether style (where clear) and content of samples [S, names, ..] are recognised: [S, names] bool each."""
    style, content = judge(pictures.flatten(0, 1))
    right = style.argmax(1).view(styles.shape) == styles
    return right, content.argmax(1).view(styles.shape) == torch.arange(styles.shape[1])


def share(right):
    """Share of true values, to four places."""
    return round(right.float().mean().item(), 4)


def accuracies(judge, shown, tests, generator):
    """Accuracies of a judge. `tests`: samples and their clear styles, from seeds outside its training."""
    pictures, styles = tests
    style, content = on_augmentations(judge, shown, generator)
    sample_style, sample_content = on_samples(judge, pictures, styles)
    return {"style_on_clear_samples": share(sample_style[styles >= 0]),
            "style_on_augmented_drawings": share(style),
            "content_on_samples": share(sample_content),
            "content_on_augmented_drawings": share(content)}


@torch.no_grad()
def twin_accuracies(twin, shown, tests, unseen, generator):
    """Accuracies of the twin on the style of the names `unseen`, which are not in its training."""
    pictures, styles = tests
    style, _ = on_augmentations(twin, shown, generator)
    samples, _ = on_samples(twin, pictures, styles)
    plain = twin(shown.images[0].flatten(0, 1))[0].argmax(1).view(2, -1) == STYLE_OF_HALVES[:, None]
    clear = (styles >= 0)[:, unseen]
    return {"twin_style_on_clear_samples_of_unseen_names": share(samples[:, unseen][clear]),
            "twin_style_on_augmented_drawings_of_unseen_names": share(style[:, :, unseen]),
            "twin_style_on_drawings_of_unseen_names": share(plain[:, unseen])}


@torch.no_grad()
def write_golden(judge, images):
    """Inputs and outputs for the test that compares the Rust judge with this one."""
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    style, content = judge(pixels.float() / 127.5 - 1)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": pixels.permute(0, 2, 3, 1).contiguous(), "style": style,
               "content": content}, GOLDEN)


def paintings(work, seed):
    """Training and test pictures of the judge of this seed; painted once and kept in `work`."""
    file = work / f"judge-paintings-{seed}.pt"
    if not file.exists():
        pipeline = load_pipeline(ROOT / "assets/demo-model")
        shown = shown_pictures(pipeline, torch.Generator().manual_seed(seed), seed * SEEDS_A_JUDGE)
        tests = samples_of(pipeline, TEST_SAMPLES, seed * SEEDS_A_JUDGE + TEST_SEED)
        work.mkdir(parents=True, exist_ok=True)
        torch.save({"images": shown.images, "styled": shown.styled, "faithful": shown.faithful,
                    "tests": tests}, file)
    kept = torch.load(file)
    return Shown(kept["images"], kept["styled"], kept["faithful"]), kept["tests"]


def main():
    """Paint, train the judge (and its twin), measure, write the folder (for assets/judge also the golden file)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--twin", action="store_true", help="measure the style head on names that it never saw")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = names()
    seen = torch.tensor([not row["held_out"] for row in rows])
    shown, tests = paintings(options.work, options.seed)
    print(json.dumps({"copies": len(shown.images), "faithful": shown.faithful,
                      "of known style": [share(copy) for copy in shown.styled],
                      "clear among test samples": share(tests[1] >= 0)}), flush=True)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    judge = train(shown, torch.ones_like(seen), options.steps, generator)
    measured = accuracies(judge, shown, tests, generator)
    print(json.dumps(measured), flush=True)
    save_judge(options.folder, judge, [row["prompt"] for row in rows], measured)
    if options.folder.resolve() == FOLDER:
        count = len(rows)
        write_golden(judge, drawings().flatten(0, 1)[[0, 40, count + 80, count + 120]])
    if options.twin:
        twin = train(shown, seen, options.steps, generator)
        measured |= twin_accuracies(twin, shown, tests, ~seen, generator)
        save_judge(options.folder, judge, [row["prompt"] for row in rows], measured)
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
