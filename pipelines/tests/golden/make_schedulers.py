"""Noise schedules and DDIM chains of diffusers 0.42, the golden values of tests/schedulers.rs.

    .python/python pipelines/tests/golden/make_schedulers.py

    schedules.safetensors   alphas_cumprod of each configuration, [T] float32, bit for bit
    ddim.json               per case: configuration, steps, eta, timesteps, and x after all steps of a made-up network
                            0.3 x + 0.001 t - 0.2 from x[i] = sin(i), noise of step s cos(i + s), i = 0 .. 11
"""

import json
import pathlib

import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False, "clip_sample": False, "steps_offset": 1}
SCHEDULES = {
    "sd": SD,
    "zero_snr": {**SD, "rescale_betas_zero_snr": True},
    "defaults": {},
    "short": {"num_train_timesteps": 250, "beta_end": 0.05},
    "trained": {"num_train_timesteps": 5, "trained_betas": [0.001, 0.01, 0.05, 0.1, 0.2]},
}
CASES = [
    ("sd", {}, 10, 0.0), ("sd", {}, 30, 0.0), ("sd", {}, 50, 1.0), ("sd", {}, 1, 0.0), ("sd", {}, 7, 0.3), ("sd", {}, 501, 0.0),
    ("sd", {"timestep_spacing": "linspace"}, 10, 0.0), ("sd", {"timestep_spacing": "linspace"}, 1, 0.0), ("sd", {"timestep_spacing": "linspace"}, 13, 1.0),
    ("sd", {"timestep_spacing": "trailing"}, 10, 0.0), ("sd", {"timestep_spacing": "trailing"}, 60, 1.0), ("sd", {"set_alpha_to_one": True}, 10, 1.0),
    ("sd", {"prediction_type": "v_prediction"}, 10, 0.0), ("sd", {"prediction_type": "v_prediction"}, 10, 1.0),
    ("zero_snr", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 10, 1.0),
    ("short", {"steps_offset": 1, "clip_sample": False}, 20, 0.5),
]


def chain(scheduler, steps, eta):
    scheduler.set_timesteps(steps)
    index = torch.arange(12, dtype=torch.float32)
    x = torch.sin(index).reshape(1, 3, 2, 2)
    for s, t in enumerate(scheduler.timesteps):
        network = 0.3 * x + 0.001 * float(t) - 0.2
        noise = torch.cos(index + s).reshape(1, 3, 2, 2)
        x = scheduler.step(network, t, x, eta=eta, variance_noise=noise).prev_sample
    return [int(t) for t in scheduler.timesteps], x.flatten().tolist()


def main():
    save_file({n: DDIMScheduler(**c).alphas_cumprod.contiguous() for n, c in SCHEDULES.items()}, HERE / "schedules.safetensors")
    lines = []
    for base, changes, steps, eta in CASES:
        config = {"_class_name": "DDIMScheduler", **SCHEDULES[base], **changes}
        timesteps, x = chain(DDIMScheduler.from_config(config), steps, eta)
        lines.append(json.dumps({"config": config, "steps": steps, "eta": eta, "timesteps": timesteps, "x": x}))
    schedules = {n: {"_class_name": "DDIMScheduler", **c} for n, c in SCHEDULES.items()}
    text = '{"schedules": ' + json.dumps(schedules) + ',\n "chains": [\n' + ",\n".join(lines) + "\n]}\n"
    (HERE / "ddim.json").write_text(text)


main()
