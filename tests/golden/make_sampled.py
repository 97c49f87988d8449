"""Pictures of the tiny model of make_generate.py under every sampler of diffusers 0.42: golden values of tests/sampled.rs.

    .python/python tests/golden/make_sampled.py

    sampled/CASE-SEED.png   and cases.json: the scheduler files (those of pipelines/tests/golden/samplers.json), and the cases:
                            which file the model folder has, and the options of `diffpref generate`

The network was filled with random numbers, so that a file may say of it what it likes: Stable Diffusion 1.5's file, that of
2.1-v, SDXL's, and one with zero terminal SNR stand for these models' sampling. What `--scheduler` names is built by
`from_config` of the folder's own scheduler.
"""

import json
import pathlib
import shutil

import diffusers
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

HERE = pathlib.Path(__file__).parent
OUT = HERE / "sampled"
FILES = json.loads((HERE.parent.parent / "pipelines/tests/golden/samplers.json").read_text())["files"]
PROMPT = "a black cat in the forest"
CLASSES = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
}
CASES = {
    f"{file}-{scheduler}": {"file": file, "scheduler": scheduler}
    for file in FILES for scheduler in ("auto", *CLASSES) if (file, scheduler) != ("zero_snr", "pndm")
}
CASES |= {
    "sd15-dpmpp_2m-karras": {"file": "sd15", "scheduler": "dpmpp_2m", "karras": True},
    "sdxl-euler-karras": {"file": "sdxl", "scheduler": "euler", "karras": True},
    "sd21_v-ddim-eta": {"file": "sd21_v", "scheduler": "ddim", "eta": 0.7},
    "sd15-rescale": {"file": "sd15", "scheduler": "auto", "guidance-rescale": 0.7},
    "zero_snr-rescale": {"file": "zero_snr", "scheduler": "euler", "guidance-rescale": 0.7},
    "sd15-plus-plus": {"file": "sd15", "scheduler": "ddim", "cfg-plus-plus": 0.4},
    "sd21_v-plus-plus": {"file": "sd21_v", "scheduler": "ddim", "cfg-plus-plus": 0.6},
    "sd15-as-v": {"file": "sd15", "scheduler": "ddim", "prediction-type": "v_prediction", "zero-terminal-snr": True},
    "zero_snr-as-plain": {"file": "zero_snr", "scheduler": "dpmpp_2m", "prediction-type": "epsilon", "zero-terminal-snr": False},
}


def load(case):
    """The pipeline as a user has it who loads the folder and then sets the scheduler."""
    folder = OUT / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "generate/model", folder)
    file = FILES[case["file"]]
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(file))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", file["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    shutil.rmtree(folder)
    over = {"use_karras_sigmas": True} if case.get("karras") else {}
    if "prediction-type" in case:
        over |= {"prediction_type": case["prediction-type"], "rescale_betas_zero_snr": case["zero-terminal-snr"]}
    if case["scheduler"] != "auto":
        pipe.scheduler = getattr(diffusers, CLASSES[case["scheduler"]]).from_config(pipe.scheduler.config, **over)
    return pipe


@torch.no_grad()
def plus_plus(pipe, steps, lam, generator):
    """CFG++ as CFGpp-diffusion/CFGpp `latent_diffusion.py` has it, for epsilon and, with v turned into epsilon, for v."""
    scheduler = pipe.scheduler
    assert isinstance(scheduler, DDIMScheduler)
    scheduler.set_timesteps(steps)
    text, empty = pipe.encode_prompt(PROMPT, "cpu", 1, True)
    size = pipe.unet.config.sample_size
    z = torch.randn(1, 4, size, size, generator=generator)
    skip = scheduler.config.num_train_timesteps // steps
    for t in scheduler.timesteps:
        at = scheduler.alphas_cumprod[t]
        at_prev = scheduler.alphas_cumprod[t - skip] if t - skip >= 0 else scheduler.final_alpha_cumprod
        noise_uc, noise_c = (pipe.unet(z, t, encoder_hidden_states=c).sample for c in (empty, text))
        if scheduler.config.prediction_type == "v_prediction":
            noise_uc, noise_c = (at.sqrt() * v + (1 - at).sqrt() * z for v in (noise_uc, noise_c))
        noise_pred = noise_uc + lam * (noise_c - noise_uc)
        z0t = (z - (1 - at).sqrt() * noise_pred) / at.sqrt()
        z = at_prev.sqrt() * z0t + (1 - at_prev).sqrt() * noise_uc
    image = pipe.vae.decode(z0t / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(image)[0]


def paint(pipe, case, seed, steps):
    generator = torch.Generator("cpu").manual_seed(seed)
    if "cfg-plus-plus" in case:
        return plus_plus(pipe, steps, case["cfg-plus-plus"], generator)
    options = {"guidance_rescale": case.get("guidance-rescale", 0.0), "eta": case.get("eta", 0.0)}
    return pipe(PROMPT, num_inference_steps=steps, generator=generator, guidance_scale=5.0, **options).images[0]


def main():
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for name, case in CASES.items():
        pipe = load(case)
        for seed in (5, 6):
            paint(pipe, case, seed, 8).save(OUT / f"{name}-{seed}.png")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in CASES.items())
    text = f'{{"prompt": {json.dumps(PROMPT)}, "steps": 8, "guidance-scale": 5.0,\n"files": {json.dumps(FILES)},\n"cases": {{\n{lines}\n}}}}\n'
    (OUT / "cases.json").write_text(text)


main()
