"""Names of single-file checkpoints for every tensor of SD1.5, SD2.1 and SDXL, as diffusers 0.42 converts them.

    .python/python pipelines/tests/golden/make_original_keys.py

The names are written here by the block arithmetic of CompVis' UNet and Stability's scripts, then handed to diffusers' own
converters: what those make of a name is the diffusers name of its row, so that a wrong name cannot stay. original_keys.json
holds, for every family and component, the number of tensors, the SHA-256 of all rows "diffusers name TAB original name LF"
in the order of the diffusers names, and every 25th row to read. Fused projections appear three times, with #0, #1 and #2.
"""

import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils as convert
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

HERE = Path(__file__).parent
STANDARD = HERE.parent.parent / "assets/standard"
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "conv_shortcut": "skip_connection"}


def unet_names(config):
    """CompVis numbers blocks through: a level has its layers and, but for the last, a sampler."""
    prefixes = {"conv_in.": "input_blocks.0.0.", "time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.",
                "add_embedding.linear_1.": "label_emb.0.0.", "add_embedding.linear_2.": "label_emb.0.2.", "conv_norm_out.": "out.0.",
                "conv_out.": "out.2.", "mid_block.attentions.0.": "middle_block.1."}

    def resnet(ours, theirs):
        prefixes.update({f"{ours}.{a}.": f"{theirs}.{b}." for a, b in RESNET.items()})

    resnet("mid_block.resnets.0", "middle_block.0")
    resnet("mid_block.resnets.1", "middle_block.2")
    number = 1
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(config["layers_per_block"]):
            resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{number}.0")
            if "CrossAttn" in kind:
                prefixes[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{number}.1."
            number += 1
        if level + 1 < len(config["down_block_types"]):
            prefixes[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{number}.0.op."
            number += 1
    number = 0
    for level, kind in enumerate(config["up_block_types"]):
        for layer in range(config["layers_per_block"] + 1):
            resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{number}.0")
            place = 1
            if "CrossAttn" in kind:
                prefixes[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{number}.1."
                place = 2
            if layer == config["layers_per_block"] and level + 1 < len(config["up_block_types"]):
                prefixes[f"up_blocks.{level}.upsamplers.0."] = f"output_blocks.{number}.{place}."
            number += 1
    return prefixes


def vae_names(levels):
    prefixes = {}
    for side in ("encoder", "decoder"):
        prefixes |= {f"{side}.conv_in.": f"{side}.conv_in.", f"{side}.conv_out.": f"{side}.conv_out.", f"{side}.conv_norm_out.": f"{side}.norm_out."}
        for i in (0, 1):
            prefixes[f"{side}.mid_block.resnets.{i}."] = f"{side}.mid.block_{i + 1}."
        for a, b in {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            prefixes[f"{side}.mid_block.attentions.0.{a}."] = f"{side}.mid.attn_1.{b}."
    for i in range(levels):
        for j in range(3):
            for a, b in {"conv_shortcut": "nin_shortcut", "norm1": "norm1", "norm2": "norm2", "conv1": "conv1", "conv2": "conv2"}.items():
                prefixes[f"encoder.down_blocks.{i}.resnets.{j}.{a}."] = f"encoder.down.{i}.block.{j}.{b}."
                prefixes[f"decoder.up_blocks.{i}.resnets.{j}.{a}."] = f"decoder.up.{levels - 1 - i}.block.{j}.{b}."
        prefixes[f"encoder.down_blocks.{i}.downsamplers.0.conv."] = f"encoder.down.{i}.downsample.conv."
        prefixes[f"decoder.up_blocks.{i}.upsamplers.0.conv."] = f"decoder.up.{levels - 1 - i}.upsample.conv."
    return prefixes | {"quant_conv.": "quant_conv.", "post_quant_conv.": "post_quant_conv."}


def openclip_names(layers):
    names = {"text_model.embeddings.token_embedding.weight": "token_embedding.weight",
             "text_model.embeddings.position_embedding.weight": "positional_embedding", "text_projection.weight": "text_projection"}
    for end in ("weight", "bias"):
        names[f"text_model.final_layer_norm.{end}"] = f"ln_final.{end}"
        for i in range(layers):
            ours, theirs = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
            for a, b in {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}.items():
                names[f"{ours}.{a}.{end}"] = f"{theirs}.{b}.{end}"
            for third, letter in enumerate("qkv"):
                names[f"{ours}.self_attn.{letter}_proj.{end}"] = f"{theirs}.attn.in_proj_{end}#{third}"
    return names


def by_prefix(keys, prefixes):
    longest = sorted(prefixes, key=len, reverse=True)
    def name(key):
        prefix = next(p for p in longest if key.startswith(p))
        return prefixes[prefix] + key[len(prefix):]
    return {key: name(key) for key in keys}


def marked(names, prefix):
    """A checkpoint whose tensors say which name they lie under; fused ones have a row for every third."""
    numbers, tensors = {}, {}
    for original in names.values():
        plain, _, third = original.partition("#")
        number = numbers.setdefault(original, len(numbers))
        if third:
            tensors.setdefault(prefix + plain, torch.zeros(3, 1))[int(third)] = number
        else:
            tensors[prefix + plain] = torch.full((1, 1), float(number))
    return numbers, tensors


def check(names, numbers, converted):
    """Every tensor that the converter names must be the one that we put under that name."""
    found = {key: round(value.flatten()[0].item()) for key, value in converted.items()}
    assert found == {key: numbers[original] for key, original in names.items()}


class Fused:
    """What convert_open_clip_checkpoint wants to know of the model: here a projection has one row."""
    class config:
        hidden_size = 1


def rows(names):
    text = [f"{key}\t{names[key]}\n" for key in sorted(names)]
    return {"tensors": len(text), "sha256": hashlib.sha256("".join(text).encode()).hexdigest(), "rows": text[::25]}


def family(name):
    configs = {k: v for k, v in json.loads((STANDARD / f"{name}.json").read_text()).items() if k.endswith("/config.json")}
    configs = {k.split("/")[0]: v for k, v in configs.items()}
    out = {}
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(configs["unet"])
        vae = AutoencoderKL.from_config(configs["vae"])
    names = by_prefix(unet.state_dict(), unet_names(configs["unet"]))
    numbers, tensors = marked(names, "model.diffusion_model.")
    check(names, numbers, convert.convert_ldm_unet_checkpoint(tensors, dict(unet.config)))
    out["unet"] = rows(names)
    names = by_prefix(vae.state_dict(), vae_names(4))
    numbers, tensors = marked(names, "first_stage_model.")
    tensors = {k: v[:, :, None, None] if "attn_1" in k and k.endswith("weight") and "norm" not in k else v for k, v in tensors.items()}
    check(names, numbers, convert.convert_ldm_vae_checkpoint(tensors, dict(vae.config)))
    out["vae"] = rows(names)
    for part in ("text_encoder", "text_encoder_2"):
        if part not in configs:
            continue
        config = CLIPTextConfig(**configs[part])
        with torch.device("meta"):
            model = (CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel)(config)
        keys = [k if k.startswith("text_") else f"text_model.{k}" for k in model.state_dict()]
        if config.hidden_act == "quick_gelu":
            names = {key: key for key in keys}
            prefix = "conditioner.embedders.0.transformer." if name == "sdxl" else "cond_stage_model.transformer."
            numbers, tensors = marked(names, prefix)
            check(names, numbers, convert.convert_ldm_clip_checkpoint(tensors))
        else:
            names = openclip_names(config.num_hidden_layers)
            names = {key: names[key] for key in keys}
            prefix = "conditioner.embedders.1.model." if name == "sdxl" else "cond_stage_model.model."
            numbers, tensors = marked(names, prefix)
            check(names, numbers, convert.convert_open_clip_checkpoint(Fused, tensors, prefix=prefix))
        out[part] = rows(names)
    return out


families = {name: family(name) for name in ("sd1", "sd2", "sdxl")}
(HERE / "original_keys.json").write_text(json.dumps(families, indent=1) + "\n")
for name, parts in families.items():
    print(name, {part: value["tensors"] for part, value in parts.items()})
