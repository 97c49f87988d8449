"""The steps of a run, made again: batches by the streams, losses, AdamW, validation."""

import math

import torch

from .compare import Figure, Tolerances, pair_figures, relative, share, within
from .data import decode, split, transform, weight_factors
from .draws import Draws
from .model import Networks

CHUNK = 8  # pairs a forward; what is computed does not depend on it


def rounded(values, cache_dtype):
    """Values as the cache gives them back."""
    return values.half().float() if cache_dtype == "float16" else values


class Run:
    """One run as its resolved.toml describes it; `next_step()` makes the steps in order."""

    def __init__(self, config):
        self.config = config
        data, train, method = config["data"], config["train"], config["method"]
        self.draws = Draws(train["seed"], data["draws_per_pair"])
        self.networks = Networks(config, self.draws)
        self.resolution = self.networks.resolution(config)
        self.train, self.validation = split(config)
        self.per_step = train.get("pairs_per_step") or train["micro_batch"] * train["grad_accum"]
        self.steps = train.get("steps") or math.ceil(train["epochs"] * len(self.train) / self.per_step)
        self.factors = weight_factors(self.train, config.get("weights"))
        last = self.networks.timesteps - 1
        self.law = config.get("timesteps") or {"law": "uniform", "min": 0, "max": last}
        self.positions = self.draws.positions(self.train, method.get("desirable_share"))
        self.name, self.beta, self.mean_h = method["name"], method.get("beta"), (0.0, 0.0)
        self.pairwise = self.name == "dpo"
        self.encoded, self.prompts = {}, {}
        optim = config["optim"]
        self.lr = optim["lr"] * (self.per_step if optim["lr_scale"] == "global_batch" else 1)
        self.optimizer = torch.optim.AdamW(
            self.networks.trained, lr=self.lr, betas=tuple(optim["betas"]), eps=optim["eps"],
            weight_decay=optim["weight_decay"])
        self.ema_decay = config.get("ema", {}).get("decay", 0)
        self.ema = [p.detach().clone() for p in self.networks.trained] if self.ema_decay else None
        self.step = 0

    # What goes in

    def latents(self, image, flip, crop, z):
        """[C, h, w] scaled latents of one view and its time_ids [6]; None for a file that cannot be read."""
        view = (image, flip, crop)
        if view not in self.encoded:
            try:
                pixels, time_ids = transform(decode(image), self.resolution, flip, crop, self.config["data"]["crops"])
            except (OSError, SyntaxError):
                self.encoded[view] = None
                return None
            moments = self.networks.moments(pixels)
            if self.config["model"].get("time_ids") == "constant":
                time_ids = torch.tensor([self.resolution, self.resolution, 0, 0] + [self.resolution] * 2).float()
            self.encoded[view] = [*(rounded(x, self.config["data"]["cache_dtype"]) for x in moments), time_ids]
        if self.encoded[view] is None:
            return None
        mean, std, time_ids = self.encoded[view]
        raw = mean if z is None else mean + std * z(mean.shape)
        return raw * self.networks.vae.config.scaling_factor, time_ids

    def prompt_embeds(self, prompt):
        """([L, D],), for SDXL ([L, D], [P])."""
        if prompt not in self.prompts:
            made = self.networks.prompt_embeds(prompt)
            self.prompts[prompt] = tuple(rounded(x, self.config["data"]["cache_dtype"]) for x in made)
        return self.prompts[prompt]

    def item(self):
        """What the next position of the endless order brings: (images, noises, t, prompt_embeds, weight), one (latents, time_ids)
        and one noise for each image that is trained; None if a picture is missing."""
        index, turn = next(self.positions)
        item, data, d = self.train[index], self.config["data"], self.draws.index(turn)
        images = []
        for k, image in enumerate(item.images[:1] if self.name == "sft" else item.images):
            flip = self.draws.flip(d, k, item.id, data["flip"])
            crop = self.draws.crop(d, k, item.id, data["crops"]) if data["crop"] == "random" else None
            sampled = data["posterior"] == "sample"
            z = (lambda shape, k=k: self.draws.posterior(d, k, item.id, shape)) if sampled else None
            images.append(self.latents(image, flip, crop, z))
        if any(image is None for image in images):
            return None
        dropped = self.draws.dropout(d, item.id, self.config["method"]["prompt_dropout"])
        embeds = self.prompt_embeds("" if dropped else item.prompt)
        t = self.draws.timestep(d, item.id, self.networks.timesteps, self.law)
        shape = images[0][0].shape
        if item.phi is not None and not self.config["method"].get("shared_noise"):
            noises = [self.draws.image_noise(d, k, item.id, shape) for k in range(len(images))]
        else:
            noises = [self.draws.noise(d, item.id, shape)] * len(images)
        return images, noises, t, embeds, self.factors and self.factors[index]

    # Errors

    def native(self, items, errors):
        """[n] a side: errors of `errors` (policy's or reference's) for items, in the model's parameterisation."""
        sides = len(items[0][0])
        latents, time_ids = map(torch.stack, zip(*(item[0][k] for k in range(sides) for item in items)))
        noise = torch.stack([item[1][k] for k in range(sides) for item in items])
        t = torch.tensor([item[2] for item in items] * sides)
        embeds = map(torch.stack, zip(*[item[3] for item in items] * sides))
        return errors(latents, noise, t, time_ids, *embeds).chunk(sides)

    def space(self, items):
        t = torch.tensor([item[2] for item in items])
        return self.networks.epsilon_factor(t, self.config["method"].get("error", "epsilon"))

    # A step

    def next_step(self):
        """Figures of the next step, the weights moved by it; None when it had no readable item."""
        self.step += 1
        items = [x for x in (self.item() for _ in range(self.per_step)) if x is not None]
        if not items:
            return None
        beta = self.beta_of_step() if self.pairwise else None
        self.optimizer.zero_grad()
        errors = [self.backward(items[i : i + CHUNK], beta, len(items)) for i in range(0, len(items), CHUNK)]
        errors = [torch.cat(x) for x in zip(*errors)]
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        limit = self.config["optim"]["max_grad_norm"]
        norm = torch.nn.utils.clip_grad_norm_(self.networks.trained, limit)
        self.optimizer.step()
        self.move_ema()

        tolerances = Tolerances.of_step(self.step)
        t = torch.tensor([item[2] for item in items])
        figures = {"lr": relative(rate, tolerances.exact),
                   "epoch": relative(self.step * self.per_step / len(self.train), tolerances.exact),
                   "grad_norm": relative(norm, tolerances.grad_norm)}
        if self.pairwise:
            figures |= {"beta": relative(beta, tolerances.h)}
            figures |= pair_figures(errors, beta, tolerances, t, self.networks.timesteps)
            self.remember(errors)
        else:
            native, epsilon = errors
            figures |= {"loss": relative(native.mean(), tolerances.e),
                        "model_mse_w": relative(epsilon.mean(), tolerances.e)}
        every = self.config["validate"]["every"]
        if self.validation and every and (self.step % every == 0 or self.step == self.steps):
            figures |= self.validate(beta, tolerances)
        return figures

    def backward(self, items, beta, n):
        """Adds the gradient of these items' share of the step's mean; returns the detached errors of each side."""
        space = self.space(items)
        theta = self.native(items, self.networks.policy_errors)
        if not self.pairwise:
            (theta[0].sum() / n).backward()
            return theta[0].detach(), theta[0].detach() * space
        reference = self.native(items, self.networks.reference_errors)
        theta_w, theta_l, ref_w, ref_l = (x * space for x in (*theta, *reference))
        u = 0.5 * beta * ((ref_w - theta_w) - (ref_l - theta_l))
        (-torch.nn.functional.logsigmoid(u).sum() / n).backward()
        return tuple(x.detach() for x in (theta_w, theta_l, ref_w, ref_l))

    def rate(self):
        """Rate of the step in hand: a ramp over the first w steps, then the schedule."""
        optim = self.config["optim"]
        warmup = optim["warmup_steps"]
        if self.step <= warmup:
            return self.lr * self.step / warmup
        q = (self.step - 1 - warmup) / (self.steps - warmup)
        return self.lr * {"constant": 1, "linear": 1 - q, "cosine": (1 + math.cos(math.pi * q)) / 2}[optim["schedule"]]

    def beta_of_step(self):
        if self.config["method"]["beta"] != "auto":
            return float(self.config["method"]["beta"])
        if self.step <= 10:
            self.beta = 5000.0
            return self.beta
        total, weight = self.mean_h
        target = min(max(2 * math.log((1 - 0.2) / 0.2) / (total / weight), 500.0), 20000.0)
        self.beta = min(max(target, self.beta / 1.05), self.beta * 1.05)
        return self.beta

    def remember(self, errors):
        """Bias-corrected running mean of |h|, for beta = "auto"."""
        theta_w, theta_l, ref_w, ref_l = errors
        mean = float(((ref_w - theta_w) - (ref_l - theta_l)).abs().mean())
        self.mean_h = tuple(0.99 * old + 0.01 * new for old, new in zip(self.mean_h, (mean, 1.0)))

    def move_ema(self):
        for kept, p in zip(self.ema or [], self.networks.trained):
            kept.mul_(self.ema_decay).add_(p.detach(), alpha=1 - self.ema_decay)

    # Validation

    @torch.no_grad()
    def validate(self, beta, tolerances):
        """val_* of the held-out pairs at fixed draws, against the start model, with EMA weights where there are any."""
        draws = self.config["validate"]["draws"]
        raw = [p.detach().clone() for p in self.networks.trained]
        self.assign(self.ema or raw)
        kept, errors, losses = [], [], []
        for pair in self.validation:
            sides = [self.latents(image, False, None, None) for image in pair.images]
            if any(side is None for side in sides):
                continue
            items = []
            for j in range(draws):
                noise, t = self.draws.validation(j, pair.id, sides[0][0].shape, draws, self.networks.timesteps)
                items.append((sides, [noise] * len(sides), t, self.prompt_embeds(pair.prompt), None))
            space = self.space(items)
            theta, reference = (self.native(items, f) for f in (self.networks.policy_errors, self.networks.reference_errors))
            kept.append(pair)
            errors.append(torch.stack([x * space for x in (*theta, *reference)]))
            losses.append(theta[0])
        self.assign(raw)
        return self.validation_figures(kept, torch.stack(errors), torch.stack(losses), beta, tolerances)

    def assign(self, values):
        for p, value in zip(self.networks.trained, values):
            p.copy_(value)

    def validation_figures(self, pairs, errors, native, beta, tolerances):
        """`errors` [pairs, 4, draws], `native` [pairs, draws]."""
        theta_w, theta_l, ref_w, ref_l = errors.unbind(1)
        largest, h_w, h_l = errors.amax(1), ref_w - theta_w, ref_l - theta_l
        h = h_w - h_l
        t_h, t_w, t_l = (tolerances.of_h(x, largest) for x in (h, h_w, h_l))
        figures = {"val_implicit_acc": share(h.mean(1), t_h.mean(1)), "val_margin": within(h.mean(), t_h.mean()),
                   "val_gap_w": within(-h_w.mean(), t_w.mean()), "val_gap_l": within(-h_l.mean(), t_l.mean())}
        if self.pairwise:
            loss = torch.nn.functional.softplus(-0.5 * beta * h).mean()
            figures["val_loss"] = within(loss, 0.5 * beta * t_h.mean() + 1e-6)
        else:
            figures["val_loss"] = relative(native.mean(), tolerances.e)
        by_prompt = {}
        for pair, value in zip(pairs, h.mean(1).tolist()):
            by_prompt.setdefault(pair.prompt, []).append(value)
        means = torch.tensor([sum(x) / len(x) for x in by_prompt.values()], dtype=torch.float64)
        if len(means) > 1:
            half = 1.96 * means.std().item() / math.sqrt(len(means))
            allowed = float(t_h.mean() + t_h.mean(1).amax() * 1.96 / math.sqrt(len(means)))
            figures["val_margin_lo"] = within(means.mean().item() - half, allowed)
            figures["val_margin_hi"] = within(means.mean().item() + half, allowed)
        return figures
