"""Trajectories as diffusers 0.42 samples them, and how probable their steps are: golden values of tests/it/rollout/numbers.rs.

    .python/python tests/golden/make_rollout.py

Two prompts, one trajectory each, by the models of make_generate.py (epsilon, and the same as v_prediction) and make_families.py (sdxl,
sd21): DDIM of 4 steps with eta 1 and guidance 5, noise from the streams of docs/determinism.md. Networks compute in float64, states are
float32. rollout.safetensors holds

    CASE.latents    [2, 5, 4, 8, 8]  x_T .. x_0 of each trajectory, those of the iteration's first prompt first
    CASE.log_prob   [2, 4]           log p(x_p | x_t) of each step by the model that sampled
    CASE.log_ratio  [8]              the same by that model with 0.02 of generate/lora.safetensors, minus log_prob, in the order of
                                     training; of the model that this LoRA fits
"""

import hashlib
import pathlib

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
PROMPTS = ["red apple", "green apple"]
SEED, STEPS, GUIDANCE, SHAPE = 0, 4, 5.0, (4, 8, 8)
LORA = 0.02  # a step of training more than another model


def generator(stream, *ids):
    text = ":".join(["diffpref", str(SEED), stream, *map(str, ids)])
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") & (2**63 - 1)
    return torch.Generator("cpu").manual_seed(key)


def randperm(n, *ids):
    return torch.randperm(n, generator=generator("choose", *ids)).tolist()


class Model:
    def __init__(self, folder, kind=None, lora=False):
        self.pipe = DiffusionPipeline.from_pretrained(HERE / folder, safety_checker=None)
        if lora:
            self.pipe.load_lora_weights(HERE / "generate", weight_name="lora.safetensors", adapter_name="golden")
            self.pipe.set_adapters(["golden"], [LORA])
        self.pipe.to(torch.float64)
        config = self.pipe.scheduler.config
        self.ddim = DDIMScheduler.from_config(config, prediction_type=kind or config["prediction_type"])
        self.ddim.set_timesteps(STEPS)

    def told(self, prompt):
        """What the network is told: the side without a prompt first."""
        if not hasattr(self.pipe, "text_encoder_2"):
            positive, negative = self.pipe.encode_prompt(prompt, "cpu", 1, True, negative_prompt="")
            return {"encoder_hidden_states": torch.cat([negative, positive])}
        positive, negative, pooled, negative_pooled = self.pipe.encode_prompt(
            prompt, device="cpu", do_classifier_free_guidance=True, negative_prompt="")
        side = SHAPE[1] * self.pipe.vae_scale_factor
        time_ids = torch.tensor([[side, side, 0, 0, side, side]] * 2).double()
        added = {"text_embeds": torch.cat([negative_pooled, pooled]), "time_ids": time_ids}
        return {"encoder_hidden_states": torch.cat([negative, positive]), "added_cond_kwargs": added}

    def transition(self, prompt, call, x):
        """Mean and standard deviation of x_p given x_t."""
        t = self.ddim.timesteps[call]
        without, told = self.pipe.unet(torch.cat([x, x]).double(), t, **self.told(prompt)).sample.chunk(2)
        guided = without + GUIDANCE * (told - without)
        mean = self.ddim.step(guided, t, x.double(), eta=1.0, variance_noise=torch.zeros_like(guided)).prev_sample
        return mean, self.ddim._get_variance(t, t - 1000 // STEPS).double() ** 0.5

    def log_prob(self, prompt, call, x, following):
        mean, std = self.transition(prompt, call, x)
        return torch.distributions.Normal(mean, std).log_prob(following.double()).mean()


def case(folder, kind=None, perturbed=None):
    start = Model(folder, kind)
    latents, log_prob, ratio = [], [], []
    for prompt in randperm(len(PROMPTS), 0, "prompts"):
        noise = torch.randn(1 + STEPS, *SHAPE, generator=generator("rollout", 0, 0, prompt))
        states = [noise[:1]]
        for call in range(STEPS):
            mean, std = start.transition(PROMPTS[prompt], call, states[-1])
            states.append((mean + std * noise[call + 1].double()).float())
        steps = [(PROMPTS[prompt], call, states[call], states[call + 1]) for call in range(STEPS)]
        log_prob.append(torch.stack([start.log_prob(*step) for step in steps]))
        if perturbed:
            ratio.append(torch.stack([perturbed.log_prob(*step) for step in steps]) - log_prob[-1])
        latents.append(torch.cat(states))
    found = {"latents": torch.stack(latents), "log_prob": torch.stack(log_prob)}
    if perturbed:
        # The pass over what an iteration kept: trajectories in an order of their own, and the steps of each.
        order = [(j, call) for j in randperm(len(PROMPTS), 0, "groups", 0) for call in randperm(STEPS, 0, "units", 0, j)]
        found["log_ratio"] = torch.stack([ratio[j][call] for j, call in order])
    return found


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    cases = {"sdxl": case("families/sdxl"), "sd21": case("families/sd21")}
    for kind in ("epsilon", "v_prediction"):
        cases[kind] = case("generate/model", kind, Model("generate/model", kind, lora=True))
    tensors = {f"{name}.{key}": value.contiguous() for name, case in cases.items() for key, value in case.items()}
    save_file(tensors, HERE / "rollout.safetensors")
    for name, tensor in tensors.items():
        print(name, tuple(tensor.shape), tensor if tensor.numel() < 10 else tensor.std())


main()
