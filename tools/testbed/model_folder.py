"""Write the base model as a Stable Diffusion 1.5 folder of the diffusers layout, in float16."""

import json
import shutil
from pathlib import Path

import diffusers
import torch
from safetensors.torch import load_file, save_file

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": diffusers.__version__,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
    "trained_betas": None,
}


def write_json(path, content):
    """Write indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save_text_encoder(text_encoder, folder):
    """Save in half precision under the names that published models use (`text_model.` in front)."""
    text_encoder.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", config | {"architectures": ["CLIPTextModel"],
                                                 "dtype": "float16"})
    tensors = {}
    for name, tensor in text_encoder.state_dict().items():
        if name.endswith("position_ids"):
            continue
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        tensors[name] = tensor.half().contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def save_half(model, folder):
    """Save a diffusers model in half precision, leaving `model` as it is."""
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    write_json(folder / "config.json", config)
    path = folder / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor.half().contiguous() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


@torch.no_grad()
def save_model(target, vae, unet, text_encoder, tokenizer_folder):
    """Write the whole folder beside `target`, then put it in `target`'s place."""
    target = Path(target)
    new, old = (target.with_name(f".{target.name}.{word}") for word in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    write_json(new / "model_index.json", MODEL_INDEX)
    write_json(new / "scheduler/scheduler_config.json", SCHEDULER)
    shutil.copytree(tokenizer_folder, new / "tokenizer")
    save_half(vae, new / "vae")
    save_half(unet, new / "unet")
    (new / "text_encoder").mkdir()
    save_text_encoder(text_encoder, new / "text_encoder")
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
