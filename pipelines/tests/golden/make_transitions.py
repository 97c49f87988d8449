"""Transitions of DDIM with eta 1 by diffusers 0.42 and their log-probabilities, the golden values of tests/schedulers.rs.

    .python/python pipelines/tests/golden/make_transitions.py

    transitions.json   per case: configuration, steps, float32 or float64, and rows, each of its own call of the sampler: the
                       latents, prediction and next latents (all [3, 2, 2], flat), mean and std of the step by DDIMScheduler,
                       the x_0 it predicts, the log-probability of the next latents by torch.distributions, its mean over C,
                       H, W, and the gradient of that with respect to the prediction
"""

import json
import pathlib

import torch
from diffusers import DDIMScheduler

HERE = pathlib.Path(__file__).parent
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False, "clip_sample": False, "steps_offset": 1}
CASES = [
    ({}, 20, [0, 7, 18, 19]),
    ({"prediction_type": "v_prediction"}, 20, [0, 7, 18, 19]),
    ({"timestep_spacing": "trailing"}, 7, [6, 2, 2]),
    ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}, 10, [1, 9]),
]


def row(scheduler, call, latents, prediction, noise):
    t = scheduler.timesteps[call]
    prediction = prediction.requires_grad_()
    quiet = scheduler.step(prediction, t, latents, eta=1.0, variance_noise=torch.zeros_like(latents))
    mean, x0 = quiet.prev_sample, quiet.pred_original_sample
    stride = scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    std = scheduler._get_variance(int(t), int(t) - stride) ** 0.5
    following = (mean + std * noise).detach()
    log_prob = torch.distributions.Normal(mean.double(), std.double()).log_prob(following.double()).mean()
    (gradient,) = torch.autograd.grad(log_prob, prediction)
    tensors = {"latents": latents, "prediction": prediction, "next": following, "mean": mean, "x0": x0, "gradient": gradient}
    numbers = {name: tensor.detach().flatten().tolist() for name, tensor in tensors.items()}
    return {"call": call, "std": float(std.detach()), "log_prob": float(log_prob.detach()), **numbers}


def main():
    generator = torch.Generator().manual_seed(5)
    lines = []
    for changes, steps, calls in CASES:
        for kind in ("float32", "float64"):
            config = {"_class_name": "DDIMScheduler", **SD, **changes}
            scheduler = DDIMScheduler.from_config(config)
            scheduler.set_timesteps(steps)
            draw = lambda: torch.randn((1, 3, 2, 2), generator=generator, dtype=getattr(torch, kind))
            rows = [row(scheduler, call, draw(), draw(), draw()) for call in calls]
            lines.append(json.dumps({"config": config, "steps": steps, "kind": kind, "rows": rows}))
    (HERE / "transitions.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
