"""Train the base model's UNet and text encoder together, from scratch, in the VAE's latents.

Captions are the plain names for every style and every ground, so the model paints all of them. v-prediction on a
schedule of zero terminal SNR (Lin et al. 2023, arXiv 2305.08891), 10 % empty captions for classifier-free guidance, an
average of the weights. The drawings are encoded once, each with VARIANTS random sizes, places and grounds (compose.py).

Zero terminal SNR is needed. On Stable Diffusion's own schedule the last timestep keeps a trace of the picture's mean
colour, so the initial noise fixes that mean: dark objects get light grounds, and a model that learns darker grounds
paints lighter objects.

The whole state is in WORK/unet.pt, written every few minutes; a run that finds it continues from it. The average is
written as a model folder with every state.

Usage: train_unet.py WORK MODEL_FOLDER [--minutes M] [--threads N] [--start MODEL_FOLDER]
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from common import STYLES, Clock, names, sprites
from compose import compose_many
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from model_folder import SCHEDULER, save_model
from tokenizer import LENGTH
from train_vae import encode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BATCH = 32
PEAK_RATE = 1e-3
EMPTY_SHARE = 0.1
EMA_DECAY = 0.999
VARIANTS = 32
TEXT_WIDTH = 96
STATE_MINUTES = 5


def new_unet():
    """The untrained UNet: Stable Diffusion 1.5's parts, four levels, narrow, 6.6M parameters."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 96, 128, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1, cross_attention_dim=TEXT_WIDTH, attention_head_dim=4, norm_num_groups=32)


def new_text_encoder(tokenizer):
    """The untrained text encoder."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=LENGTH, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))


def start_models(folder, tokenizer):
    """UNet and text encoder of `folder`, or untrained ones without it."""
    if folder is None:
        return [new_unet(), new_text_encoder(tokenizer)]
    return [UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
            CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)]


def token_ids(tokenizer):
    """Ids of all names and, in the last row, of the empty caption."""
    captions = [row["prompt"] for row in names()] + [""]
    return tokenizer(captions, padding="max_length", max_length=LENGTH, truncation=True,
                     return_tensors="pt").input_ids


def encoded(vae, path, generator):
    """Means and standard deviations of the latents, each [VARIANTS, styles, names, 4, 16, 16] in float16."""
    if path.exists():
        return torch.load(path)
    start, drawings = time.time(), [drawing for style in sprites() for drawing in style]
    variants = [encode(vae, compose_many(drawings, generator)) for _ in range(VARIANTS)]
    shape = (VARIANTS, len(STYLES), -1, 4, 16, 16)
    result = [torch.stack(part).half().view(shape) for part in zip(*variants)]
    torch.save(result, path)
    print(f"encoded {VARIANTS * len(drawings)} pictures in {time.time() - start:.0f} s", flush=True)
    return result


class Average:
    """Moving average of the parameters of several models."""

    def __init__(self, models):
        self.live = models
        self.models = [copy.deepcopy(model).eval() for model in models]
        self.count = 0

    @torch.no_grad()
    def update(self):
        """Move the average towards the live parameters; faster in the first steps."""
        self.count += 1
        decay = min(EMA_DECAY, self.count / (self.count + 10))
        for average, live in zip(self.models, self.live):
            torch._foreach_lerp_(list(average.parameters()), list(live.parameters()), 1 - decay)


class Training:
    """Networks, optimizer and everything else that a resumed run needs."""

    def __init__(self, models, minutes):
        self.models = models
        self.average = Average(self.models)
        self.parameters = [p for model in self.models for p in model.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01,
                                           fused=True)
        self.generator = torch.Generator().manual_seed(2)
        self.step, self.clock = 0, Clock(minutes)

    def save(self, path):
        """Write the state to `path`, in one move."""
        state = {"models": [model.state_dict() for model in self.models],
                 "average": [model.state_dict() for model in self.average.models],
                 "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(),
                 "step": self.step, "minutes": self.clock.worked()}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path):
        """Continue from the state at `path`."""
        state = torch.load(path)
        for live, saved in zip([*self.models, *self.average.models], [*state["models"], *state["average"]]):
            live.load_state_dict(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.average.count = state["step"], state["step"]
        self.clock = Clock(self.clock.minutes, state["minutes"])

    def set_rate(self):
        """Learning rate: 200 steps of warm-up, then linear to 0 with the minutes."""
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1, (self.step + 1) / 200) * (1 - self.clock.done())

    def update(self, loss):
        """One optimizer step and one of the average."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update()
        self.step += 1


class Batches:
    """Random noisy latents and captions, and the loss on them."""

    def __init__(self, latents, ids, factor):
        self.means, self.deviations = latents
        self.ids, self.factor = ids, factor
        self.schedule = DDPMScheduler.from_config(SCHEDULER)

    def loss(self, unet, text_encoder, generator):
        """Mean squared error of the predicted v on one random batch."""
        def index(count):
            return torch.randint(count, (BATCH,), generator=generator)

        variants, styles, count = self.means.shape[:3]
        classes = index(count)
        place = (index(variants), index(styles), classes)
        mean, deviation = self.means[place].float(), self.deviations[place].float()
        latents = self.factor * (mean + deviation * torch.randn(mean.shape, generator=generator))
        noise = torch.randn(latents.shape, generator=generator)
        times = index(1000)
        noisy = self.schedule.add_noise(latents, noise, times)
        dropped = torch.rand(BATCH, generator=generator) < EMPTY_SHARE
        with torch.autocast("cpu", torch.bfloat16):
            states = text_encoder(self.ids[torch.where(dropped, count, classes)]).last_hidden_state
            predicted = unet(noisy, times, states).sample
        return (predicted.float() - self.schedule.get_velocity(latents, noise, times)).square().mean()


def main():
    """Train and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="model folder with the first weights, whatever its prediction")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(2)
    vae = AutoencoderKL.from_pretrained(options.work / "vae", torch_dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "tokenizer")
    latents = encoded(vae, options.work / "latents.pt", torch.Generator().manual_seed(3))
    batches = Batches(latents, token_ids(tokenizer), vae.config.scaling_factor)
    training = Training(start_models(options.start, tokenizer), options.minutes)
    state = options.work / "unet.pt"
    if state.exists():
        training.load(state)

    def keep():
        training.save(state)
        save_model(options.folder, vae, *training.average.models, options.work / "tokenizer")

    kept, recent, start = time.time(), [], time.time()
    while training.clock.done() < 1:
        training.set_rate()
        loss = batches.loss(*training.models, training.generator)
        training.update(loss)
        recent.append(loss.item())
        if len(recent) == 100:
            rate = BATCH * len(recent) / (time.time() - start)
            print(json.dumps({"step": training.step, "minutes": round(training.clock.worked(), 1),
                              "loss": round(sum(recent) / len(recent), 4), "samples_per_s": round(rate, 1)}),
                  flush=True)
            recent, start = [], time.time()
        if time.time() - kept > 60 * STATE_MINUTES:
            keep()
            kept = time.time()
    keep()


if __name__ == "__main__":
    main()
