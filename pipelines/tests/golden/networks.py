"""Networks of diffusers and transformers with drawn weights: what golden files and the live comparison share.

Weights are not stored. Both sides draw every parameter from a generator seeded by its name, so that a golden file holds
inputs, outputs and a sample of the gradients only.
"""

import hashlib
import json
import math
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

CASES = Path(__file__).parent / "networks"
SAMPLED = 32


def generator(name):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
    return torch.Generator("cpu").manual_seed(seed)


def draw(name, shape):
    """One parameter. The scale keeps activations away from where a wrong nonlinearity would not show."""
    x = torch.randn(shape, generator=generator(name))
    if len(shape) == 1:
        return x * 0.2 + 1.0 if name.endswith("weight") else x * 0.2
    gain = 0.3 if name.startswith("quant_conv") else 1.5  # the exponent of the VAE's variance stays small
    return x * (gain / math.sqrt(math.prod(shape[1:])))


def file_name(kind, name):
    """The key of a parameter in published files: transformers >= 5.6 leaves the prefix of its CLIPTextModel out."""
    bare = kind == "clip" and not name.startswith(("text_model.", "text_projection."))
    return f"text_model.{name}" if bare else name


def cases():
    """name -> (kind, config) of every case that lies beside this file."""
    found = {}
    for path in sorted(CASES.glob("*.json")):
        found[path.stem] = (path.stem.split("_")[0], json.loads(path.read_text()))
    return found


def build(kind, config):
    """The network of a case in Python, float32, drawn weights, evaluation mode."""
    if kind == "unet":
        model = UNet2DConditionModel.from_config(config)
    elif kind == "vae":
        model = AutoencoderKL.from_config(config)
    else:
        projects = config["architectures"] == ["CLIPTextModelWithProjection"]
        model = (CLIPTextModelWithProjection if projects else CLIPTextModel)(CLIPTextConfig(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw(file_name(kind, name), parameter.shape))
    return model.eval()


def inputs(kind, config):
    """What a case is computed from, by name."""
    if kind == "unet":
        height, width = (12, 16) if len(config["block_out_channels"]) == 4 else (10, 12)
        latents = (2, config["in_channels"], height, width)
        made = {
            "latents": torch.randn(latents, generator=generator("input.latents")),
            "timesteps": torch.tensor([7, 801]),
            "prompt_embeds": torch.randn((2, 9, config["cross_attention_dim"]), generator=generator("input.prompt")),
        }
        if config.get("addition_embed_type"):
            pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
            made["pooled_prompt_embeds"] = torch.randn((2, pooled), generator=generator("input.pooled"))
            made["time_ids"] = torch.tensor([[96.0, 80, 3, 0, 64, 64], [64, 64, 0, 0, 64, 64]])
        return made
    if kind == "vae":
        side = 4 * 2 ** (len(config["block_out_channels"]) - 1)
        images = torch.rand((2, 3, side, side + side // 4), generator=generator("input.images")) * 2 - 1
        latents = torch.randn((2, config["latent_channels"], 4, 5), generator=generator("input.latents"))
        return {"images": images, "latents": latents}
    ids = torch.randint(3, config["vocab_size"] - 1, (3, 11), generator=generator("input.ids"))
    end = config["vocab_size"] - 1 if config["eos_token_id"] == 2 else config["eos_token_id"]
    for row, place in enumerate((10, 4, 7)):
        ids[row, place:] = end
    return {"ids": ids}


def outputs(kind, model, given):
    """What the network makes of the inputs, by name."""
    if kind == "unet":
        added = {"text_embeds": given["pooled_prompt_embeds"], "time_ids": given["time_ids"]} if "time_ids" in given else None
        prediction = model(given["latents"], given["timesteps"], given["prompt_embeds"], added_cond_kwargs=added)
        return {"prediction": prediction.sample}
    if kind == "vae":
        posterior = model.encode(given["images"]).latent_dist
        image = model.decode(given["latents"] / model.config.scaling_factor).sample
        return {"mean": posterior.mean, "std": posterior.std, "image": image}
    made = model(given["ids"], output_hidden_states=True)
    pooled = made.text_embeds if hasattr(made, "text_embeds") else made.pooler_output
    return {"last_hidden_state": made.last_hidden_state, "before_last": made.hidden_states[-2], "pooled": pooled}


def targets(made):
    """Drawn targets for a squared error, one per output."""
    return {name: torch.randn(value.shape, generator=generator(f"target.{name}")) for name, value in made.items()}


def gradients(kind, model, made, wanted):
    """Gradients of the summed mean squared errors, by the parameters' names in files, sorted."""
    loss = sum(torch.nn.functional.mse_loss(made[name], wanted[name]) for name in sorted(made))
    names, parameters = zip(*sorted((file_name(kind, n), p) for n, p in model.named_parameters()))
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(names, parameters, grads)}


def sample(gradient):
    """At most SAMPLED evenly spaced elements."""
    flat = gradient.flatten()
    count = min(SAMPLED, flat.numel())
    return flat[[i * flat.numel() // count for i in range(count)]]
