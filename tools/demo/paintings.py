"""Training pictures of a judge: the drawings, decoded by the VAE and painted over by the demo model.

A generated picture is softer than a drawing, has passed the VAE, and has the demo model's own mistakes.
Every kind of picture exists in both styles of the same name, so that none of this separates the styles:

faithful   as drawn, decoded by the VAE (also from noisy latents), painted over by the demo model from near
           (noised part of the way and denoised under the drawing's caption): the style is known
painted    painted over from far; the model may have changed the style, so it counts only where the nearest
           drawing, in pixels and in latents, is still the one at the start of the painting
samples    painted from noise alone; the style is that of the nearest drawing where pixels and latents agree
           on it and on the intended name
"""

from dataclasses import dataclass

import torch
from check import nearest_drawings, sample
from common import augment, drawings, names
from diffusers import DDIMScheduler

LATENT_NOISE = 0.25
STEPS = 10
# (of STEPS DDIM steps, how many are repainted; guidance scale)
NEAR = ((3, 7.5), (4, 3.0), (5, 7.5))
FAR = ((6, 3.0), (7, 7.5), (8, 7.5))
SAMPLES, SAMPLE_SCALE = 6, 7.5


@dataclass
class Shown:
    """Pictures `images` [copies, 2, names, 3, 64, 64], index 1 as in STYLES. All names are known; `styled` [copies,
    names]: whether both styles are. The first `faithful` copies are the faithful ones."""

    images: torch.Tensor
    styled: torch.Tensor
    faithful: int


@torch.no_grad()
def decoded_copies(vae, images, generator):
    """Every picture decoded by the VAE twice: from its latents, and from latents with added noise."""
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
    images = augment(images, generator, flip=0, shift=0.03, scale=0.05)
    painted = []
    batches = [captions[i:i + 64] for i in range(0, len(captions), 64)]
    for part, texts in zip(images.split(64), batches):
        states = [pipeline.text_encoder(pipeline.tokenizer(
            t, padding="max_length", truncation=True, return_tensors="pt").input_ids).last_hidden_state
            for t in ([""] * len(texts), texts)]
        latents = pipeline.vae.encode(part).latent_dist.mean * factor
        noise = torch.randn(latents.shape, generator=generator)
        latents = schedule.add_noise(latents, noise, times[:1])
        for time in times:
            empty, told = pipeline.unet(torch.cat([latents] * 2), time, torch.cat(states)).sample.chunk(2)
            latents = schedule.step(empty + scale * (told - empty), time, latents).prev_sample
        painted.append(pipeline.vae.decode(latents / factor).sample.clamp(-1, 1))
    return torch.cat(painted)


def clear_styles(pipeline, pictures, wanted):
    """The style class of each picture, [N]; -1 where pixels and latents do not agree on it and on the name `wanted`."""
    found = nearest_drawings(pipeline.vae, pictures, drawings().flatten(0, 1))
    (style, name), (other_style, other_name) = found["pixels"], found["latents"]
    clear = (style == other_style) & (name == wanted) & (other_name == wanted)
    return torch.where(clear, style, -1)


def samples_of(pipeline, count, first_seed):
    """`count` samples of every name from seeds `first_seed` and up, [count, names, 3, 64, 64], and their
    clear styles [count, names]."""
    prompts = [row["prompt"] for row in names()]
    total = count * len(prompts)
    pictures = sample(pipeline, prompts * count, range(first_seed, first_seed + total), STEPS, SAMPLE_SCALE)
    styles = clear_styles(pipeline, pictures, torch.arange(len(prompts)).repeat(count))
    shape = (count, len(prompts))
    return pictures.unflatten(0, shape), styles.view(shape)


def in_both_styles(pictures, styles):
    """Samples of every name laid out as copies in both styles, [count, 2, names, ..], and where both are known.

    A name with samples of one style only, or unclear ones, fills both places with them and counts only for its name.
    """
    count, total = styles.shape
    copies = torch.empty(count, 2, total, *pictures.shape[2:])
    styled = torch.empty(count, 2, total, dtype=torch.bool)
    for name in range(total):
        for style in range(2):
            fitting = (styles[:, name] == style).nonzero()[:, 0].tolist()
            order = fitting or list(range(count))
            copies[:, style, name] = pictures[[order[i % len(order)] for i in range(count)], name]
            styled[:, style, name] = bool(fitting)
    return copies, styled.all(1)


def shown_pictures(pipeline, generator, first_seed):
    """All training pictures of a judge. Samples draw noise from seeds `first_seed` and up, the rest from `generator`."""
    images = drawings().flatten(0, 1)
    captions = [row["prompt"] for row in names()] * 2
    count = len(images) // 2
    copies = [images, *decoded_copies(pipeline.vae, images, generator)]
    copies += [painted_over(pipeline, images, captions, *how, generator) for how in NEAR]
    faithful = len(copies)
    wanted = torch.arange(count).repeat(2)
    styles = torch.arange(2).repeat_interleave(count)
    styled = [torch.ones(count, dtype=torch.bool)] * faithful
    for how in FAR:
        painted = painted_over(pipeline, images, captions, *how, generator)
        kept = clear_styles(pipeline, painted, wanted) == styles
        copies.append(painted)
        styled.append(kept.view(2, count).all(0))
    both, known = in_both_styles(*samples_of(pipeline, SAMPLES, first_seed))
    images = torch.cat([torch.stack(copies).unflatten(1, (2, count)), both])
    return Shown(images, torch.cat([torch.stack(styled), known]), faithful)
