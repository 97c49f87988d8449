"""The networks, by diffusers and transformers, and a LoRA of our own over them."""

import copy
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

diffusers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


class LoraLayer(nn.Module):
    """y = W x + scale B A x, W a linear layer or a 1x1 convolution. With A = B = None it is the plain layer."""

    def __init__(self, base, a, b, scale):
        super().__init__()
        self.base, self.a, self.b, self.scale = base, a, b, scale

    def forward(self, x):
        y = self.base(x)
        if self.a is None:
            return y
        apply = nn.functional.linear if self.a.dim() == 2 else nn.functional.conv2d
        return y + self.scale * apply(apply(x, self.a), self.b)


def read_lora(path):
    """module -> (A, B, scale) of a file in PEFT naming; alpha stands in the header, else the scale is 1."""
    modules = {}
    with safe_open(path, "pt") as file:
        header = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
        for name in (n for n in file.keys() if n.endswith(".lora_A.weight")):
            module = name.removesuffix(".lora_A.weight")
            a, b = file.get_tensor(name), file.get_tensor(module + ".lora_B.weight")
            scale = header.get("unet.lora_alpha", 8) / a.shape[0] if header else 1.0
            modules[module.removeprefix("unet.")] = (a.float(), b.float(), scale)
    return modules


def takes_lora(module):
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


class Lora:
    """Adapters on every layer whose path ends in one of the targets, as PEFT chooses them (or those of `init`)."""

    def __init__(self, unet, config, draws, dtype):
        rank, alpha, targets = config["rank"], config.get("alpha", config["rank"]), config["targets"]
        start = read_lora(config["init"]) if config.get("init") else None
        self.layers, self.parameters, self.start = [], [], []
        for path, module in list(unet.named_modules()):
            chosen = path in start if start else any(path == t or path.endswith("." + t) for t in targets)
            if not chosen or not takes_lora(module):
                continue
            outputs, inputs, *kernel = module.weight.shape
            if start is None:
                a = draws.lora("unet." + path, rank, inputs).view(rank, inputs, *kernel)
                b, scale = torch.zeros(outputs, rank, *kernel), alpha / rank
            else:
                a, b, scale = start[path]
            a, b = (nn.Parameter(x.to(dtype)) for x in (a, b))
            layer = LoraLayer(module, a, b, scale)
            parent, _, name = path.rpartition(".")
            setattr(unet.get_submodule(parent), name, layer)
            self.layers.append(layer)
            self.parameters += [a, b]
            frozen = (nn.Parameter(x.detach().clone(), requires_grad=False) for x in (a, b))
            self.start.append(tuple(frozen) if start else (None, None))
        self.trained, self.reference = [(layer.a, layer.b) for layer in self.layers], self.start

    def use(self, values):
        for layer, (a, b) in zip(self.layers, values):
            layer.a, layer.b = (a, b)


class PlainText:
    """Stable Diffusion 1 and 2: the last hidden state of one CLIP, or an earlier one through the final norm."""

    def __init__(self, folder, clip_skip):
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.clip_skip = clip_skip

    @torch.no_grad()
    def __call__(self, prompt):
        ids = token_ids(self.tokenizer, self.text, prompt)
        if not self.clip_skip:
            return (self.text(ids).last_hidden_state[0],)
        hidden = self.text(ids, output_hidden_states=True).hidden_states[-(self.clip_skip + 1)]
        norm = getattr(self.text, "text_model", self.text).final_layer_norm
        return (norm(hidden)[0],)


class DoubleText:
    """SDXL: the penultimate states of two CLIPs side by side, and the projected pooled output of the second."""

    def __init__(self, folder, clip_skip):
        load = lambda kind, name: kind.from_pretrained(folder / name, torch_dtype=torch.float32).eval()
        self.texts = [load(CLIPTextModel, "text_encoder"), load(CLIPTextModelWithProjection, "text_encoder_2")]
        self.tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in ("tokenizer", "tokenizer_2")]
        self.clip_skip = clip_skip

    @torch.no_grad()
    def __call__(self, prompt):
        both = zip(self.tokenizers, self.texts)
        made = [text(token_ids(words, text, prompt), output_hidden_states=True) for words, text in both]
        states = [output.hidden_states[-(self.clip_skip + 2)][0] for output in made]
        return torch.cat(states, -1), made[1].text_embeds[0]


def token_ids(tokenizer, text, prompt):
    length = min(tokenizer.model_max_length, text.config.max_position_embeddings)
    return tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


class Networks:
    """Policy, reference, VAE, text encoders and noise schedule of one run, on the CPU."""

    def __init__(self, config, draws):
        model, lora = config["model"], config.get("lora", {})
        folder = Path(model["path"])
        self.dtype = torch.float64 if model.get("dtype") == "float64" else torch.float32
        unet_dir = model.get("unet") or folder / "unet"
        self.policy = UNet2DConditionModel.from_pretrained(unet_dir, torch_dtype=torch.float32).to(self.dtype)
        self.policy.requires_grad_(False)
        self.lora = Lora(self.policy, lora, draws, self.dtype) if lora.get("rank") else None
        if self.lora:
            self.trained = self.lora.parameters
        else:
            self.trained = [p.requires_grad_() for p in self.policy.parameters()]
            self.start_unet = UNet2DConditionModel.from_pretrained(unet_dir, torch_dtype=torch.float32)
            self.reference_unet = self.start_unet.to(self.dtype).requires_grad_(False)
        self.vae = AutoencoderKL.from_pretrained(model.get("vae") or folder / "vae", torch_dtype=torch.float32)
        self.told_sizes = self.policy.config.addition_embed_type == "text_time"
        # prompt -> ([L, D],) or ([L, D], [P])
        self.prompt_embeds = (DoubleText if self.told_sizes else PlainText)(folder, model.get("clip_skip", 0))
        given = {"prediction_type": model.get("prediction_type"), "rescale_betas_zero_snr": model.get("zero_terminal_snr")}
        given = {key: value for key, value in given.items() if value not in (None, "auto")}
        self.schedule = DDPMScheduler.from_pretrained(folder / "scheduler", **given)
        self.is_v = self.schedule.config.prediction_type == "v_prediction"
        self.timesteps = self.schedule.config.num_train_timesteps
        for network in (self.policy, self.vae):
            network.eval()

    def resolution(self, config):
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        given = config["data"]["resolution"]
        return self.policy.config.sample_size * factor if given == "auto" else given

    @torch.no_grad()
    def moments(self, pixels):
        """Mean and std of the posterior of one picture [3, R, R], each [C, h, w]."""
        posterior = self.vae.encode(pixels[None]).latent_dist
        return posterior.mean[0], posterior.std[0]

    # Predictions

    def noised(self, latents, noise, timesteps):
        """Input of the network and its target in its own parameterisation, [B, C, h, w] each."""
        target = self.schedule.get_velocity(latents, noise, timesteps) if self.is_v else noise
        return self.schedule.add_noise(latents, noise, timesteps), target

    def predict(self, which, noisy, timesteps, conditions):
        """Prediction of "policy", "reference" or "start" in its own parameterisation. `conditions`: time_ids [B, 6],
        prompt_embeds [B, L, D] and for SDXL pooled [B, P]."""
        time_ids, prompt_embeds, *pooled = conditions
        added = {"text_embeds": pooled[0].to(self.dtype), "time_ids": time_ids} if self.told_sizes else None
        embeds = prompt_embeds.to(self.dtype)
        if which == "policy":
            return self.policy(noisy, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
        with torch.no_grad():
            if not self.lora:
                unet = self.reference_unet if which == "reference" else self.start_unet
                return unet(noisy, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
            self.lora.use(self.lora.reference if which == "reference" else self.lora.start)
            said = self.policy(noisy, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
            self.lora.use(self.lora.trained)
            return said

    def levels(self, timesteps):
        """a_t and s_t [B, 1, 1, 1]; below 0 they are those of 0."""
        abar = self.schedule.alphas_cumprod[timesteps.clamp(min=0)].to(self.dtype).view(-1, 1, 1, 1)
        return abar.sqrt(), (1 - abar).sqrt()

    def predict_noise(self, which, noisy, timesteps, conditions):
        """A prediction as noise (methods.md 0.2)."""
        said = self.predict(which, noisy, timesteps, conditions)
        a, s = self.levels(timesteps)
        return a * said + s * noisy if self.is_v else said

    def move_reference(self):
        """Copies the policy into the reference."""
        if self.lora:
            self.lora.reference = [tuple(x.detach().clone() for x in layer) for layer in self.lora.trained]
            self.lora.reference = [tuple(nn.Parameter(x, requires_grad=False) for x in layer) for layer in self.lora.reference]
        else:
            self.reference_unet = copy.deepcopy(self.policy).requires_grad_(False)

    def epsilon_factor(self, timesteps, space):
        """[B] factor from native squared error to epsilon space (methods.md 0.2)."""
        abar = self.schedule.alphas_cumprod[timesteps].to(self.dtype)
        return abar if self.is_v and space == "epsilon" else torch.ones_like(abar)

    def timestep_weight(self, timesteps):
        """[B] lambda(t) of methods.md 2b: 1 + 1/sqrt(SNR), stretched to [0, 1] over all t; infinite counts as the
        largest."""
        abar = self.schedule.alphas_cumprod.double()
        root = ((1 - abar) / abar).sqrt()
        finite = root[root.isfinite()]
        return (1 + (root.clamp(max=finite.max()) - finite.min()) / (finite.max() - finite.min()))[timesteps].to(self.dtype)
