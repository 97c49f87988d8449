"""Train the judge on the drawings and on spoilt copies of them, and state its accuracy.

A generated picture is softer than a drawing, has passed the VAE, may be off in colour, and has the
demo model's own mistakes. So that none of this tells the styles apart or hides what is shown, both
styles are shown as drawn, decoded by the VAE (also from noisy latents), painted over by the demo model
(noised part of the way and denoised under the drawing's caption), blurred, noisy, and with changed
colours. Both drawings of a name always come together,
moved and turned alike, so that what is shown says nothing about the style. Drawings painted over from
far teach the content alone: the model may have changed their style. The style head never sees the names that
are held out of the preference pairs; its accuracy is measured on them. The content head sees all
names; its accuracy is measured on augmentations drawn anew.

Usage: train_judge.py [--steps N] [--threads N]      after train_unet.py: it needs assets/demo-model
"""

import argparse
import json
import time

import torch
from common import ROOT, augment, drawings, names
from diffusers import DDIMScheduler, StableDiffusionPipeline
from judge import CHANNELS, Judge, save_judge
from safetensors.torch import save_file
from torch.nn import functional

BATCH = 64
DROPOUT = 0.3
STYLE_OF_HALVES = torch.tensor([0, 1])
PEAK_RATE = 2e-3
LATENT_NOISE = 0.25
# Of 10 DDIM steps, how many are painted anew: near to the drawing, and so far that its style may change.
STEPS, NEAR, FAR = 10, (4,), (8,)
SCALES = (7.5, 3.0)
GOLDEN = ROOT / "tests/golden/judge.safetensors"


@torch.no_grad()
def decoded_copies(vae, images, generator):
    """Every picture once as the VAE gives it back and once from latents with noise added."""
    copies = []
    for noise in (0.0, LATENT_NOISE):
        parts = []
        for part in augment(images, generator, shift=0.04, scale=0.06).split(64):
            latents = vae.encode(part).latent_dist.mean
            extra = torch.randn(latents.shape, generator=generator) * noise
            parts.append(vae.decode(latents + extra / vae.config.scaling_factor).sample.clamp(-1, 1))
        copies.append(torch.cat(parts))
    return copies


@torch.no_grad()
def painted_over(pipeline, images, captions, again, scale, generator):
    """Every picture noised to the last `again` of STEPS DDIM steps and denoised under its caption."""
    schedule = DDIMScheduler.from_config(pipeline.scheduler.config)
    schedule.set_timesteps(STEPS)
    times = schedule.timesteps[STEPS - again:]
    factor = pipeline.vae.config.scaling_factor
    images = augment(images, generator, flip=0, shift=0.04, scale=0.06)
    painted = []
    batches = [captions[i:i + 64] for i in range(0, len(captions), 64)]
    for part, texts in zip(images.split(64), batches):
        states = [pipeline.text_encoder(pipeline.tokenizer(
            t, padding="max_length", truncation=True, return_tensors="pt").input_ids).last_hidden_state
            for t in ([""] * len(texts), texts)]
        latents = pipeline.vae.encode(part).latent_dist.mean * factor
        noise = torch.randn(latents.shape, generator=generator)
        latents = schedule.add_noise(latents, noise, times[:1])
        for time_ in times:
            empty, told = pipeline.unet(torch.cat([latents] * 2), time_, torch.cat(states)).sample.chunk(2)
            latents = schedule.step(empty + scale * (told - empty), time_, latents).prev_sample
        painted.append(pipeline.vae.decode(latents / factor).sample.clamp(-1, 1))
    return torch.cat(painted)


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
    """A random half of the batch blurred, a half with changed colours, a half noisy."""
    def some():
        return (torch.rand(len(images), generator=generator) < 0.5).view(-1, 1, 1, 1)

    images = torch.where(some(), blurred(images, generator), images)
    images = torch.where(some(), colour_changed(images, generator), images)
    strength = torch.rand(len(images), 1, 1, 1, generator=generator) * 0.08
    noise = torch.randn(images.shape, generator=generator) * strength
    return torch.where(some(), images + noise, images).clamp(-1, 1)


def batch_of(sources, picks, generator):
    """Both drawings of the names `picks`, augmented alike and spoilt each in its own way, and their copies.

    `sources` is [copies, 2, names, 3, 64, 64]; of the result, the first half is flat.
    """
    which = torch.randint(len(sources), (len(picks),), generator=generator)
    pairs = sources[which, :, picks].flatten(1, 2)
    pairs = augment(pairs, generator, shift=0.08, scale=0.25, angle=0.2)
    return spoilt(torch.cat(pairs.split(3, 1)), generator), which


@torch.no_grad()
def accuracies(judge, sources, faithful, seen, generator):
    """Style accuracy on held-out names and content accuracy on all, on fresh augmentations of faithful copies."""
    count = sources.shape[2]
    style, content = [], []
    for _ in range(16):
        images, _ = batch_of(sources[:faithful], torch.arange(count), generator)
        got_style, got_content = judge(images)
        style.append(got_style.argmax(1) == STYLE_OF_HALVES.repeat_interleave(count))
        content.append(got_content.argmax(1) == torch.arange(count).repeat(2))
    style, content = torch.stack(style).float(), torch.stack(content).float()
    plain = judge(sources[0].flatten(0, 1))[0].argmax(1) == STYLE_OF_HALVES.repeat_interleave(count)
    unseen = ~seen.repeat(2)
    return {"style_on_held_out_names": round(style[:, unseen].mean().item(), 4),
            "style_on_held_out_drawings_unspoilt": round(plain[unseen].float().mean().item(), 4),
            "content_on_held_out_augmentations": round(content.mean().item(), 4)}


@torch.no_grad()
def write_golden(judge, images):
    """Inputs and outputs for the test that compares the Rust judge with this one."""
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    style, content = judge(pixels.float() / 127.5 - 1)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    save_file({"images": pixels.permute(0, 2, 3, 1).contiguous(), "style": style,
               "content": content}, GOLDEN)


def main():
    """Train, measure and write assets/judge and the golden file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(3)
    pipeline = StableDiffusionPipeline.from_pretrained(ROOT / "assets/demo-model", torch_dtype=torch.float32)
    rows = names()
    count = len(rows)
    seen = torch.tensor([not row["held_out"] for row in rows])
    images = drawings().flatten(0, 1)
    captions = [row["prompt"] for row in rows] * 2
    copies = [images, *decoded_copies(pipeline.vae, images, generator)]
    copies += [painted_over(pipeline, images, captions, again, scale, generator) for again in NEAR for scale in SCALES]
    faithful = len(copies)
    copies += [painted_over(pipeline, images, captions, again, scale, generator) for again in FAR for scale in SCALES]
    sources = torch.stack(copies).unflatten(1, (2, count))
    print(f"{len(copies)} copies of {2 * count} drawings", flush=True)
    judge = Judge(CHANNELS, count).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    start = time.time()
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 50) * (1 - step / options.steps)
        picks = torch.randint(count, (BATCH // 2,), generator=generator)
        batch, which = batch_of(sources, picks, generator)
        batch = batch.contiguous(memory_format=torch.channels_last)
        features = judge.features(batch)
        style = judge.style(functional.dropout(features, DROPOUT))
        shown = (seen[picks] & (which < faithful)).repeat(2)
        styles = STYLE_OF_HALVES.repeat_interleave(len(picks))
        style_loss = functional.cross_entropy(style[shown], styles[shown])
        content_loss = functional.cross_entropy(judge.content(features), picks.repeat(2),
                                                label_smoothing=0.05)
        optimizer.zero_grad()
        (style_loss + content_loss).backward()
        optimizer.step()
        if step % 50 == 49:
            print(json.dumps({"step": step + 1, "style_loss": round(style_loss.item(), 4),
                              "content_loss": round(content_loss.item(), 4),
                              "s_per_step": round((time.time() - start) / (step + 1), 3)}), flush=True)
    judge = judge.eval().to(memory_format=torch.contiguous_format)
    measured = accuracies(judge, sources, faithful, seen, generator)
    save_judge(judge, [row["prompt"] for row in rows], measured)
    write_golden(judge, images[[0, 40, count + 80, count + 120]])
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
