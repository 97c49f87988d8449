"""The steps of a run, recomputed: errors, losses, AdamW, the moving reference, validation."""

import math

import torch
from torch.utils.checkpoint import checkpoint

from .batch import Batch
from .compare import Tolerances, relative, within
from .data import split
from .draws import Draws
from .figures import Rounding, error_figures, pair_figures, validation_figures, weight_figures
from .inputs import Inputs
from .inversion import invert
from .losses import LOSSES
from .model import Networks
from .reference import Reference
from .weights import Weights

CHUNK = 8  # items per forward pass; no effect on the result
REFERENCE_FREE = {"sft", "mapo"}
INVERTING = {"inpo", "smpo"}


class Run:
    """One run as its resolved.toml describes it; `next_step()` makes the steps in order."""

    def __init__(self, config):
        self.config, self.method, self.name = config, config["method"], config["method"]["name"]
        data, train, optim = config["data"], config["train"], config["optim"]
        self.draws = Draws(train["seed"], data["draws_per_pair"], config.get("timesteps"))
        self.networks = Networks(config, self.draws)
        self.train, self.validation = split(config)
        self.inputs = Inputs(config, self.networks, self.draws, self.train)
        self.weights = Weights(config, self.train)
        self.reference = Reference(config, self.networks)
        self.per_step = train.get("pairs_per_step") or train["micro_batch"] * train["grad_accum"]
        self.steps = train.get("steps") or math.ceil(train["epochs"] * len(self.train) / self.per_step)
        self.beta = self.method.get("beta")
        self.lr = optim["lr"] * (self.per_step if optim["lr_scale"] == "global_batch" else 1)
        self.optimizer = torch.optim.AdamW(
            self.networks.trained, lr=self.lr, betas=tuple(optim["betas"]), eps=optim["eps"],
            weight_decay=optim["weight_decay"])
        self.ema_decay = config.get("ema", {}).get("decay", 0)
        self.ema = [p.detach().clone() for p in self.networks.trained] if self.ema_decay else None
        self.step = 0

    # Errors

    def conditions(self, drawn):
        time_ids = torch.cat([x.time_ids for x in drawn])
        return [time_ids, *(torch.stack([x.embeds[i] for x in drawn for _ in x.latents]) for i in range(len(drawn[0].embeds)))]

    def seen(self, drawn, inverting):
        """(noisy, target, t, conditions, Inverted): inputs of the network for a chunk of items. With inversion the
        target is
        noise, whatever the network's parameterisation."""
        conditions = self.conditions(drawn)
        if not inverting:
            t = torch.tensor([x.t for x in drawn for _ in x.latents])
            latents, noise = (torch.cat(x).to(self.networks.dtype) for x in zip(*((x.latents, x.noise) for x in drawn)))
            return *self.networks.noised(latents, noise, t), t, conditions, None
        ways = []
        for x in drawn:
            shape = x.latents.shape[1:]
            noise = lambda m, x=x, shape=shape: torch.stack(
                [self.draws.inversion(x.d, k, x.item.id, m, shape) for k in range(len(x.latents))])
            ways.append(invert(self.networks, x.latents, self.conditions([x]), x.t, self.method, noise))
        t = torch.tensor([way.timestep for way, x in zip(ways, drawn) for _ in x.latents])
        return torch.cat([x.noisy for x in ways]), torch.cat([x.tau for x in ways]), t, conditions, ways

    def batch(self, drawn, references, beta, inverting=False):
        """Errors of items: the policy's with their graph, and those of each network of `references` without; the batch
        holds the first of them. The second value: residuals of each."""
        networks, names = self.networks, ("policy", *references)
        residuals, ts, ways = {name: [] for name in names}, [], []
        for i in range(0, len(drawn), CHUNK):
            chunk = drawn[i : i + CHUNK]
            noisy, target, t, conditions, inverted = self.seen(chunk, inverting)
            say = networks.predict_noise if inverting else networks.predict
            for name in names:
                ask = lambda say=say, name=name, noisy=noisy, t=t, conditions=conditions: say(name, noisy, t, conditions)
                many = name == "policy" and torch.is_grad_enabled() and len(drawn) > CHUNK
                residuals[name].append((checkpoint(ask, use_reentrant=False) if many else ask()) - target)
            ts.append(t)
            ways += [(way, noisy_of) for way, noisy_of in zip(inverted or [], chunk)]
        residuals = {name: torch.cat(x) for name, x in residuals.items()}
        t = torch.cat(ts)
        factor = networks.epsilon_factor(t, "native" if inverting else self.method.get("error", "epsilon"))
        firsts = torch.tensor([sum(len(x.latents) for x in drawn[:i]) for i in range(len(drawn))])
        t = t[firsts]
        aware = self.config.get("timesteps", {}).get("weighting") == "timestep_aware"
        weighting = networks.timestep_weight(t) if aware else torch.ones(len(drawn), dtype=networks.dtype)
        reference = residuals[references[0]] if references else None
        b = Batch(self.config, [x.item for x in drawn], residuals["policy"], reference, factor, t, weighting, beta,
                  self.step / self.steps)
        b.blocks, b.prompts = [x.block for x in drawn], torch.stack([x.pooled for x in drawn]).to(networks.dtype)
        b.tenths = lambda parts: (t * parts // networks.timesteps).tolist()
        b.ways, b.other = [way for way, _ in ways], {name: residuals[name].square().mean((1, 2, 3)) * factor for name in references}
        return b

    # A step

    def next_step(self):
        """Figures of the next step, the weights moved by it; None when it had no readable item."""
        self.step += 1
        first = (self.step - 1) * self.per_step
        drawn = [x for x in map(self.inputs.drawn, range(first, first + self.per_step)) if x is not None]
        if not drawn:
            return None
        beta = self.beta_of_step()
        looks = self.reference.looks(self.step)
        references = [] if self.name in REFERENCE_FREE else ["reference", "start"] if looks else ["reference"]
        inverting = self.name in INVERTING
        tolerances = Tolerances.of_step(self.step)

        self.optimizer.zero_grad()
        b = self.batch(drawn, references, beta, inverting)
        self.weights.statistics(b)
        terms = LOSSES[self.name](b)
        weights = self.weights(b, terms)
        loss = (weights * terms).sum() / b.counted(terms)
        figures = self.figures(b, terms, weights, loss, tolerances)
        if loss.requires_grad:
            loss.backward()
        rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.networks.trained, self.config["optim"]["max_grad_norm"])
        self.optimizer.step()
        self.move_ema()
        self.weights.remember(b)
        figures |= {"lr": relative(rate, tolerances.exact),
                    "epoch": relative(self.step * self.per_step / len(self.train), tolerances.exact),
                    "grad_norm": relative(norm, tolerances.grad_norm)}
        figures |= self.reference.after(self.step, b, tolerances)
        every = self.config["validate"]["every"]
        if self.validation and every and (self.step % every == 0 or self.step == self.steps):
            figures |= self.validate(beta)
        return figures

    def figures(self, b, terms, weights, loss, tolerances):
        """Figures of the step's own errors."""
        rounding = Rounding(b, tolerances)
        figures = {"loss": within(loss.detach(), rounding.of_loss(b, loss, tolerances))}
        figures |= error_figures(b, tolerances, rounding)
        if b.beta is not None:
            figures["beta"] = relative(b.beta, tolerances.h)
        if b.ref is not None and b.paired:
            figures |= pair_figures(b, rounding, self.networks.timesteps)
        if self.weights.active:
            plain = terms.sum() / b.counted(terms)
            figures["loss_unweighted"] = within(plain.detach(), rounding.of_loss(b, plain, tolerances))
        effective = self.weights.effective(b, weights)
        if self.weights.active or b.name in ("smpo", "mappo"):
            figures |= weight_figures(effective, 10 * tolerances.e)
        if b.lam is not None:
            allowed = (b.lam * 4 * tolerances.e * (1 + b.steepness)).mean() + 1e-6
            figures["safeguard_lam"] = within(b.lam.mean(), allowed)
        if b.ways:
            tau = torch.cat([x.tau for x in b.ways])
            said = b.residuals.detach() + tau
            figures["tau_rms"] = relative(tau.square().mean().sqrt(), tolerances.e)
            figures["inversion_error"] = relative(
                (said - torch.cat([x.last for x in b.ways])).square().mean(), tolerances.h)
        if b.name == "kto":
            figures["kl"] = within(b.kl, (b.weighting * rounding.image).mean())
        if b.name == "bco":
            figures["bco_threshold"] = within(b.bco_threshold, (b.scale * rounding.image).mean() + 1e-6)
        if b.name == "uapo":
            figures["uapo_anchor"] = within(b.uapo_anchor, (b.scale * rounding.image).mean() + 1e-6)
        if b.name == "wpo":
            figures["wpo_mean"] = relative(b.wpo_mean, tolerances.e)
        return figures

    def rate(self):
        """Rate of the current step: a ramp over the first w steps, then the schedule."""
        optim = self.config["optim"]
        warmup = optim["warmup_steps"]
        if self.step <= warmup:
            return self.lr * self.step / warmup
        q = (self.step - 1 - warmup) / (self.steps - warmup)
        return self.lr * {"constant": 1, "linear": 1 - q, "cosine": (1 + math.cos(math.pi * q)) / 2}[optim["schedule"]]

    def beta_of_step(self):
        """beta: the number of the config, or that of "auto" from the steps before; None for a method without one."""
        if self.method.get("beta") != "auto":
            return float(self.method["beta"]) if "beta" in self.method else None
        if self.step <= 10:
            wide = self.networks.told_sizes
            self.beta = {"inpo": 5000.0 if wide else 2000.0, "smpo": 5000.0 if wide else 2000.0,
                         "npo": 2000.0 if wide else 1000.0}.get(self.name, 5000.0)
            return self.beta
        target = min(max(2 * math.log((1 - 0.2) / 0.2) / self.weights.memory.h.value(None), 500.0), 20000.0)
        self.beta = min(max(target, self.beta / 1.05), self.beta * 1.05)
        return self.beta

    def move_ema(self):
        for kept, p in zip(self.ema or [], self.networks.trained):
            kept.mul_(self.ema_decay).add_(p.detach(), alpha=1 - self.ema_decay)

    # Validation

    def validate(self, beta):
        """val_* of the held-out items at fixed draws, against the start model, with EMA weights where there are any."""
        draws = self.config["validate"]["draws"]
        drawn = [x for item in self.validation for x in self.inputs.validated(item, draws) or []]
        raw = [p.detach().clone() for p in self.networks.trained]
        self.assign(self.ema or raw)
        with torch.no_grad():
            b = self.batch(drawn, ["start"], beta)
        self.assign(raw)
        b.theta, b.native = b.theta.requires_grad_(), b.native.requires_grad_()
        b.bco_threshold = b.wpo_mean = None
        self.weights.thresholds(b)
        terms = LOSSES[self.name](b)
        tolerances = Tolerances.of_step(self.step)
        rounding = Rounding(b, tolerances)
        figures = validation_figures(b, draws, terms.sum() / b.counted(terms), tolerances, rounding)
        if b.paired and self.name not in REFERENCE_FREE:
            of_pairs = pair_figures(b, rounding, self.networks.timesteps)
            figures |= {f"val_{key}": of_pairs[key] for key in ["gradient_factor"] if key in of_pairs}
        return figures

    @torch.no_grad()
    def assign(self, values):
        for p, value in zip(self.networks.trained, values):
            p.copy_(value)
