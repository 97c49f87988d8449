"""Three tiny UNets, a LoRA, and what a few lines of torch make of them: golden values of tests/merge.rs.

    .python/python tests/golden/make_merge.py

    merge/{base,a,b}            UNet folders, float32, 60 KB each; a and b differ from base everywhere
    merge/lora.safetensors      rank 3 on the attentions' to_q and one convolution, PEFT naming, alpha 6
    merge/expected.safetensors  OPERATION.NAME: the merged tensors of the middle block, float64 sums rounded to float32
    merge/expected.json         singular values of a - base per layer, and the relative error that rank 2 leaves
"""

import json
import pathlib

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
OUT = HERE / "merge"


def draw(generator, shape, scale):
    return torch.randn(shape, generator=generator) * scale


def unets():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(4, 8), layers_per_block=1, cross_attention_dim=6, attention_head_dim=2, norm_num_groups=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    generator = torch.Generator().manual_seed(1)
    base = {name: draw(generator, p.shape, 0.5) for name, p in sorted(unet.state_dict().items())}
    made = {"base": base}
    for name, scale in [("a", 0.1), ("b", 0.3)]:
        made[name] = {key: value + draw(generator, value.shape, scale) for key, value in base.items()}
    for name, weights in made.items():
        unet.load_state_dict(weights)
        unet.save_pretrained(OUT / name)
    return unet, made


def lora(unet):
    generator = torch.Generator().manual_seed(2)
    tensors, modules = {}, {}
    for name, module in sorted(unet.named_modules()):
        if not name.endswith(("attn1.to_q", "attn2.to_q", "mid_block.resnets.0.conv1")):
            continue
        out, *inner = module.weight.shape
        a = draw(generator, (3, *inner), 0.3)
        b = draw(generator, (out, 3, *[1] * (len(inner) - 1)), 0.3)
        tensors[f"unet.{name}.lora_A.weight"], tensors[f"unet.{name}.lora_B.weight"] = a, b
        modules[name + ".weight"] = (a, b)
    metadata = {"unet.r": 3, "unet.lora_alpha": 6}
    save_file(tensors, OUT / "lora.safetensors", metadata={"format": "pt", "lora_adapter_metadata": json.dumps(metadata)})
    return modules


def main():
    unet, made = unets()
    modules = lora(unet)
    base, a, b = ({k: v.double() for k, v in made[name].items()} for name in ("base", "a", "b"))

    def merged_lora(key, scale):
        down, up = (t.double().flatten(1) for t in modules[key])
        return base[key] + scale * 2.0 * (up @ down).reshape(base[key].shape)

    results = {
        "soup": {k: 0.3 * a[k] + 0.7 * b[k] for k in base},
        "task-vector": {k: base[k] + 0.8 * (a[k] - base[k]) - 0.5 * (b[k] - base[k]) for k in base},
        "npo": {k: base[k] + 0.5 * (a[k] - base[k]) + 0.8 * (b[k] - base[k]) for k in base},
        "onto": {k: b[k] + 0.6 * (a[k] - base[k]) for k in base},
        "lora": {k: merged_lora(k, 0.7) if k in modules else base[k] for k in base},
    }
    expected = {
        f"{operation}.{name}": value.float()
        for operation, tensors in results.items() for name, value in tensors.items() if name.startswith("mid_block.")
    }
    save_file(expected, OUT / "expected.safetensors")
    layers = {}
    for key in sorted(base):
        if key.endswith(".weight") and base[key].dim() > 1:
            values = torch.linalg.svdvals((a[key] - base[key]).flatten(1))
            left = (values[2:].square().sum() / values.square().sum()).sqrt()
            layers[key.removesuffix(".weight")] = {"values": values.tolist(), "rank2": left.item()}
    (OUT / "expected.json").write_text(json.dumps(layers, indent=1) + "\n")


main()
