"""What diffusers 0.42 decodes in tiles (enable_vae_tiling): golden values of tests/tiling.rs. Needs generate/model of make_generate.py.

    .python/python tests/golden/make_tiles.py

    tiles/tiles.safetensors   NAME.latents and what comes of them: NAME.tiled, NAME.whole; tiles are 16 latents, 12 apart
    tiles/tiled-5.png         a picture of 80 x 56 pixels under enable_vae_tiling
"""

import pathlib

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
OUT = HERE / "tiles"
# Height, width in latents: both divided with a rest, one divided, a second tile of one latent, exactly two steps.
CASES = {"both": (40, 27), "wide": (9, 30), "sliver": (16, 13 + 12), "even": (24, 24)}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(HERE / "generate/model", torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, (height, width) in CASES.items():
        latents = torch.randn(2, 4, height, width, generator=generator)
        tensors[f"{name}.latents"] = latents
        for kind in ("whole", "tiled"):
            pipe.vae.use_tiling = kind == "tiled"
            with torch.no_grad():
                tensors[f"{name}.{kind}"] = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / "tiles.safetensors", metadata={"format": "pt"})
    pipe.vae.enable_tiling()
    generator = torch.Generator("cpu").manual_seed(5)
    pipe("a black cat in the forest", num_inference_steps=10, generator=generator, width=80, height=56).images[0].save(OUT / "tiled-5.png")


main()
