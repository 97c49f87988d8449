"""Trajectories as diffusers 0.42 samples them, and how probable their steps are: golden values of tests/train_rollout_numbers.rs.

    .python/python tests/golden/make_rollout.py

Two prompts, one trajectory each, by the model of generate/model: DDIM of 4 steps with eta 1 and guidance 5, noise from the streams of
docs/determinism.md. Networks compute in float64, states are float32. For epsilon and v_prediction, rollout.safetensors holds

    KIND.latents    [2, 5, 4, 8, 8]  x_T .. x_0 of each trajectory, those of the iteration's first prompt first
    KIND.log_prob   [2, 4]           log p(x_p | x_t) of each step by the model that sampled
    KIND.log_ratio  [8]              the same by that model with 0.02 of generate/lora.safetensors, minus log_prob, in the order of training
"""

import hashlib
import pathlib

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
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
    def __init__(self, kind, lora=False):
        self.pipe = StableDiffusionPipeline.from_pretrained(HERE / "generate/model", safety_checker=None)
        self.pipe.to(torch.float64)
        if lora:
            self.pipe.load_lora_weights(HERE / "generate", weight_name="lora.safetensors", adapter_name="golden")
            self.pipe.set_adapters(["golden"], [LORA])
            self.pipe.to(torch.float64)
        self.ddim = DDIMScheduler.from_config(self.pipe.scheduler.config, prediction_type=kind)
        self.ddim.set_timesteps(STEPS)

    def transition(self, prompt, call, x):
        """Mean and standard deviation of x_p given x_t."""
        t = self.ddim.timesteps[call]
        positive, negative = self.pipe.encode_prompt(prompt, "cpu", 1, True, negative_prompt="")
        both = self.pipe.unet(torch.cat([x, x]).double(), t, torch.cat([negative, positive])).sample
        without, told = both.chunk(2)
        guided = without + GUIDANCE * (told - without)
        mean = self.ddim.step(guided, t, x.double(), eta=1.0, variance_noise=torch.zeros_like(guided)).prev_sample
        return mean, self.ddim._get_variance(t, t - 1000 // STEPS).double() ** 0.5

    def log_prob(self, prompt, call, x, following):
        mean, std = self.transition(prompt, call, x)
        return torch.distributions.Normal(mean, std).log_prob(following.double()).mean()


def case(kind):
    start, perturbed = Model(kind), Model(kind, lora=True)
    latents, log_prob, ratio = [], [], []
    for prompt in randperm(len(PROMPTS), 0, "prompts"):
        noise = torch.randn(1 + STEPS, *SHAPE, generator=generator("rollout", 0, 0, prompt))
        states = [noise[:1]]
        for call in range(STEPS):
            mean, std = start.transition(PROMPTS[prompt], call, states[-1])
            states.append((mean + std * noise[call + 1].double()).float())
        steps = [(PROMPTS[prompt], call, states[call], states[call + 1]) for call in range(STEPS)]
        log_prob.append(torch.stack([start.log_prob(*step) for step in steps]))
        ratio.append(torch.stack([perturbed.log_prob(*step) for step in steps]) - log_prob[-1])
        latents.append(torch.cat(states))
    # The pass over what an iteration kept: trajectories in an order of their own, and the steps of each.
    order = [(j, call) for j in randperm(len(PROMPTS), 0, "groups", 0) for call in randperm(STEPS, 0, "units", 0, j)]
    trained = torch.stack([ratio[j][call] for j, call in order])
    return {"latents": torch.stack(latents), "log_prob": torch.stack(log_prob), "log_ratio": trained}


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    kinds = ["epsilon", "v_prediction"]
    tensors = {f"{kind}.{name}": tensor for kind in kinds for name, tensor in case(kind).items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "rollout.safetensors")
    for name, tensor in tensors.items():
        print(name, tuple(tensor.shape), tensor if tensor.numel() < 10 else tensor.std())


main()
