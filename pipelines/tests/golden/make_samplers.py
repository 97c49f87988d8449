"""Every sampler of diffusers 0.42 on made-up networks: the golden values of tests/samplers.rs and tests/inversion.rs.

    .python/python pipelines/tests/golden/make_samplers.py

    samplers.json         the scheduler files, and the cases: file with changes, scheduler, steps, eta, karras; what is to be
                          refused where diffusers fails or ends in inf or nan
    samplers.safetensors  of case i: timesteps.i [calls]; sigmas.i [n + 1] (up to 100 steps); x.i, the latents [k, 12] before
                          the first call, after calls 1 to 6, and after the last

The network is 0.3 input + 0.001 t - 0.2, the latents start from sin(i) times init_noise_sigma, the noise of call s is
cos(i + s), i = 0 .. 11. Schedulers are built by from_config of the file, as a pipeline that loads it would.
"""

import json
import pathlib
import warnings

import diffusers
import diffusers.schedulers.scheduling_euler_ancestral_discrete as ancestral
import torch
from diffusers import DDIMInverseScheduler
from diffusers.configuration_utils import FrozenDict
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
CLASSES = {
    "pndm": "PNDMScheduler",
    "ddim": "DDIMScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
}
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SD = {**BETAS, "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None}
# As the models' publishers wrote them.
FILES = {
    "sd15": {"_class_name": "PNDMScheduler", **SD},
    "sd21_v": {"_class_name": "DDIMScheduler", **SD, "prediction_type": "v_prediction"},
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler", **SD, "interpolation_type": "linear", "prediction_type": "epsilon",
        "sample_max_value": 1.0, "timestep_spacing": "leading", "use_karras_sigmas": False,
    },
    "zero_snr": {
        "_class_name": "DDIMScheduler", **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
}
SPACINGS = ("leading", "linspace", "trailing")
NAMES = {name: scheduler for scheduler, name in CLASSES.items()}
KARRAS = ("dpmpp_2m", "euler")


def cases():
    for scheduler in CLASSES:
        for file in FILES:
            for steps in (1, 2, 3, 4, 10, 25):
                yield {"file": file, "changes": {}, "scheduler": scheduler, "steps": steps}
        for spacing in SPACINGS:
            changes = {"timestep_spacing": spacing}
            for steps in (1, 2, 3, 4, 10, 30, 999, 1000):
                yield {"file": "sd15", "changes": changes, "scheduler": scheduler, "steps": steps}
            for steps in (1, 4, 13):
                yield {"file": "sd21_v", "changes": changes, "scheduler": scheduler, "steps": steps}
                yield {"file": "zero_snr", "changes": changes, "scheduler": scheduler, "steps": steps}
        yield {"file": "sd15", "changes": {"steps_offset": None, "timestep_spacing": "leading"}, "scheduler": scheduler, "steps": 1000}
        yield {"file": "sd15", "changes": {"set_alpha_to_one": True}, "scheduler": scheduler, "steps": 7}
        yield {"file": "sd15", "changes": {"final_sigmas_type": "sigma_min"}, "scheduler": scheduler, "steps": 7}
        yield {"file": "sd15", "changes": {"final_sigmas_type": "sigma_min"}, "scheduler": scheduler, "steps": 20}
        yield {"file": "sdxl", "changes": {"use_karras_sigmas": True}, "scheduler": scheduler, "steps": 9}
        yield {"file": "sd15", "changes": {"num_train_timesteps": 250, "beta_end": 0.05}, "scheduler": scheduler, "steps": 20}
    for scheduler in KARRAS:
        for file in FILES:
            for steps in (1, 2, 5, 25):
                yield {"file": file, "changes": {}, "scheduler": scheduler, "steps": steps, "karras": True}
        yield {"file": "sd15", "changes": {"sigma_min": 0.05, "sigma_max": 10.0}, "scheduler": scheduler, "steps": 6, "karras": True}
    yield {"file": "sd15", "changes": {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, "scheduler": "dpmpp_2m", "steps": 20}
    for file in ("sd15", "sd21_v", "zero_snr"):
        for eta in (0.3, 1.0):
            yield {"file": file, "changes": {}, "scheduler": "ddim", "steps": 10, "eta": eta}


def file_of(case):
    return {k: v for k, v in {**FILES[case["file"]], **case["changes"]}.items() if k != "steps_offset" or v is not None}


def built(case):
    """As `Class.from_config(pipe.scheduler.config)`, with what is chosen put over it."""
    file = file_of(case)
    own = getattr(diffusers, file["_class_name"]).from_config(file)
    if own.config.get("steps_offset", 1) != 1:  # StableDiffusionPipeline corrects it when it is put together
        own._internal_dict = FrozenDict({**own.config, "steps_offset": 1})
        if case["scheduler"] == NAMES[file["_class_name"]]:
            return own
    over = {"use_karras_sigmas": True} if case.get("karras") else {}
    return getattr(diffusers, CLASSES[case["scheduler"]]).from_config(own.config, **over)


def chain(scheduler, case):
    scheduler.set_timesteps(case["steps"])
    if hasattr(scheduler, "set_begin_index"):
        # else it looks for the first timestep, skips a level where that is there twice (Karras near zero terminal SNR,
        # rounded), and fails at the end
        scheduler.set_begin_index(0)
    index = torch.arange(12, dtype=torch.float32)
    x = torch.sin(index).reshape(1, 3, 2, 2) * scheduler.init_noise_sigma
    seen = [x]
    for s, t in enumerate(scheduler.timesteps):
        network = 0.3 * scheduler.scale_model_input(x, t) + 0.001 * float(t) - 0.2
        noise = torch.cos(index + s).reshape(1, 3, 2, 2)
        ancestral.randn_tensor = lambda *_, **__: noise
        options = {"eta": case["eta"], "variance_noise": noise} if case.get("eta") else {}
        x = scheduler.step(network, t, x, **options).prev_sample
        seen.append(x)
    kept = seen[:7] + ([seen[-1]] if len(seen) > 7 else [])
    return scheduler.timesteps.float(), torch.stack(kept).reshape(-1, 12)


def inverse(prediction_type, steps):
    """A chain of DDIMInverseScheduler, which calls the network at the level that a step leads to."""
    scheduler = DDIMInverseScheduler.from_config({**FILES["sd15"], "prediction_type": prediction_type})
    scheduler.set_timesteps(steps)
    x = torch.sin(torch.arange(12, dtype=torch.float32)).reshape(1, 3, 2, 2)
    for t in scheduler.timesteps:
        x = scheduler.step(0.3 * x + 0.001 * float(t) - 0.2, t, x).prev_sample
    return scheduler.timesteps, x


def main():
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
    tensors, listed = {}, []
    for i, case in enumerate(cases()):
        scheduler = built(case)
        try:
            timesteps, x = chain(scheduler, case)
            case["refused"] = not bool(torch.isfinite(x).all())
        except IndexError:
            case["refused"] = True
        listed.append(case)
        if case["refused"]:
            continue
        tensors[f"timesteps.{i}"], tensors[f"x.{i}"] = timesteps.contiguous(), x.contiguous()
        if hasattr(scheduler, "sigmas") and case["steps"] <= 100:
            tensors[f"sigmas.{i}"] = scheduler.sigmas.float().contiguous()
    for prediction_type in ("epsilon", "v_prediction"):
        timesteps, x = inverse(prediction_type, 10)
        tensors[f"inverse.{prediction_type}.timesteps"], tensors[f"inverse.{prediction_type}.x"] = timesteps, x
    save_file(tensors, HERE / "samplers.safetensors")
    lines = ",\n".join(json.dumps(case) for case in listed)
    (HERE / "samplers.json").write_text('{"files": ' + json.dumps(FILES, indent=1) + ',\n"cases": [\n' + lines + "\n]}\n")
    print(len(listed), "cases,", sum(case["refused"] for case in listed), "refused")


main()
