"""Guidance between two networks, in a few lines: the reference of golden/make_negative.py and tools/parity/generate.py.

diffusers has no pipeline with a network a side. Here a side is a UNet and text encoders whose weights are added up by hand, and the
loop is DDIM's with both asked at every step.
"""

import copy

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

PARTS = ("unet", "text_encoder", "text_encoder_2")


def other_unet(state):
    """Another UNet of the same architecture, made of the same numbers: what the tests make, too."""
    return {name: 0.7 * w + 0.3 * w.flip(0) for name, w in state.items()}


def weights(pipe, unet=None, loras=()):
    """theta_0 + (unet, loras): {part: state dict}; a LoRA is (tensors, scale) in PEFT naming, W + scale B A."""
    sides = {part: {k: v.clone() for k, v in getattr(pipe, part).state_dict().items()} for part in PARTS if getattr(pipe, part, None) is not None}
    sides["unet"] = dict(unet or sides["unet"])
    for tensors, scale in loras:
        for name in [n for n in tensors if n.endswith(".lora_A.weight")]:
            module = name.removesuffix(".lora_A.weight")
            part, _, path = module.partition(".")
            known = sides[part]
            # transformers 5 has no level text_model in its modules
            key = next(k for k in (f"{path}.weight", f"{path.removeprefix('text_model.')}.weight") if k in known)
            b, a = tensors[f"{module}.lora_B.weight"], tensors[name]
            known[key] = known[key] + scale * (b.flatten(1) @ a.flatten(1)).view(known[key].shape)
    return sides


def merged(base, positive, negative, alpha, beta):
    """theta_0 + alpha (positive - theta_0) + beta (negative - theta_0) in float64."""
    def one(part, name):
        if not base[part][name].is_floating_point():
            return base[part][name]
        zero, p, n = (side[part][name].double() for side in (base, positive, negative))
        return (zero + alpha * (p - zero) + beta * (n - zero)).float()
    return {part: {name: one(part, name) for name in base[part]} for part in base}


def wearing(pipe, state):
    """A copy of the pipeline with these weights."""
    networks = {part: copy.deepcopy(getattr(pipe, part)) for part in state}
    for part, values in state.items():
        networks[part].load_state_dict(values)
    return type(pipe)(**{**pipe.components, **networks})


def told(pipe, prompt, size, zeros=False):
    """encoder_hidden_states and what else the UNet is told of a prompt."""
    if not hasattr(pipe, "text_encoder_2"):
        return {"encoder_hidden_states": pipe.encode_prompt(prompt, "cpu", 1, False)[0]}
    embeds, _, pooled, _ = pipe.encode_prompt(prompt=prompt, device="cpu", do_classifier_free_guidance=False)
    if zeros:
        embeds, pooled = torch.zeros_like(embeds), torch.zeros_like(pooled)
    ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32)
    return {"encoder_hidden_states": embeds, "added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}


@torch.no_grad()
def paint(pipe, positive, negative, prompt, negative_prompt, seed, steps, scale, rescale=0.0, lam=None):
    """One picture of DDIM (eta 0) between two sides' weights; `lam` is CFG++'s."""
    sides = [wearing(pipe, positive), wearing(pipe, negative)]
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    zeros = negative_prompt is None and bool(pipe.config.get("force_zeros_for_empty_prompt", False))
    tells = [told(sides[0], prompt, size), told(sides[1], negative_prompt or "", size, zeros)]
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    x = torch.randn(1, 4, pipe.unet.config.sample_size, pipe.unet.config.sample_size, generator=torch.Generator("cpu").manual_seed(seed))
    for t in scheduler.timesteps:
        pos, neg = (side.unet(x, t, **tell).sample for side, tell in zip(sides, tells))
        guided = neg + (scale if lam is None else lam) * (pos - neg)
        if rescale:
            drawn = guided * pos.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
            guided = rescale * drawn + (1 - rescale) * guided
        if lam is None:
            x = scheduler.step(guided, t, x).prev_sample
            continue
        # CFG++ denoises with the guided prediction and noises again with the negative one.
        before = int(t) - scheduler.config.num_train_timesteps // steps
        at = scheduler.alphas_cumprod[t]
        at_before = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        clean = (x - (1 - at).sqrt() * guided) / at.sqrt()
        x = at_before.sqrt() * clean + (1 - at_before).sqrt() * neg
    latents = x if lam is None else clean
    image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(image)[0]


def of_case(pipe, case, folder):
    """Both sides' weights for a case: unet, lora, negative_unet, negative_lora, negative_merge; files lie in `folder`."""
    base = weights(pipe)
    unet = {True: other_unet(base["unet"]), False: None}
    loras = lambda key: [(load_file(folder / name), scale) for name, scale in case.get(key, [])]  # noqa: E731
    positive = weights(pipe, unet[case.get("unet", False)], loras("lora"))
    if not any(key in case for key in ("negative_unet", "negative_lora")):
        return positive, positive
    negative = weights(pipe, unet[case.get("negative_unet", False)], loras("negative_lora"))
    if "negative_merge" in case:
        negative = merged(base, positive, negative, *case["negative_merge"])
    return positive, negative
