"""The first updates of a run that samples while it trains, recomputed from the transitions that its first checkpoint keeps.

Trajectories and rewards are taken as stored. Recomputed are the order of units, log-probabilities, losses, gradients
and AdamW (docs/methods.md, section 10).
"""

import json
import math
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch.nn.functional import logsigmoid

from .compare import Figure, Tolerances, relative, share, within
from .draws import Draws
from .model import Networks

SAMPLES = ("rollout_", "score_", "watch_", "val_")
SAMPLED = {"iteration", "kl", "diversity", "kept_transitions", "kept_units", "empty_iterations", "idle_groups",
           "network_evaluations", "fresh_ratio_error"}
PAIRS = {"d3po", "spo", "tailorpo"}
SINGLE = {"ddpo", "dpok", "grpo"}
METHODS = PAIRS | SINGLE | {"dense-reward"}
FIRST = "checkpoint-000001"


def recomputed(line):
    """A metrics line without what describes the samples."""
    return {name: value for name, value in line.items() if name not in SAMPLED and not name.startswith(SAMPLES)}


def prompts_of(config):
    given = config["rollout"]["prompts"]
    texts = given if isinstance(given, list) else Path(given).read_text().splitlines()
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


class Kept:
    """Units and transitions of the first iteration."""

    def __init__(self, folder):
        checkpoint = folder / FIRST
        state = json.loads((checkpoint / "state.json").read_text())["rollout"]
        if state["iteration"] != 0 or state["files"]:
            raise ValueError(f"{checkpoint} does not hold the first iteration: train with rollout.buffer = \"memory\" and "
                             "train.checkpoint_every = 1, and at least two updates per iteration")
        self.kept, self.units, self.updates = state["kept"], state["units"], state["updates"]
        self.rows = load_file(checkpoint / "rollout.safetensors")

    def row(self, number):
        return self.rows[f"{number:08}"]


class SampledRun:
    """A run as its resolved.toml describes it; `next_step()` makes the updates of the first iteration in order."""

    def __init__(self, config, folder):
        self.config, self.method, self.name = config, config["method"], config["method"]["name"]
        optim, train = config["optim"], config["train"]
        self.draws = Draws(train["seed"], 0)
        self.networks = Networks(config, self.draws)
        self.kept = Kept(folder)
        self.per_step = train.get("pairs_per_step") or train["micro_batch"] * train["grad_accum"]
        self.lr = optim["lr"] * (self.per_step if optim["lr_scale"] == "global_batch" else 1)
        self.optimizer = torch.optim.AdamW(self.networks.trained, lr=self.lr, betas=tuple(optim["betas"]), eps=optim["eps"],
                                           weight_decay=optim["weight_decay"])
        self.grid()
        texts = prompts_of(config)
        chosen = torch.randperm(len(texts), generator=self.draws.generator("choose", 0, "prompts")).tolist()
        chosen = chosen[: config["rollout"]["prompts_per_iteration"]]
        self.embeds = [self.networks.prompt_embeds(texts[i]) for i in chosen]
        self.empty = self.networks.prompt_embeds("")
        self.step = 0

    def grid(self):
        """Timesteps of the sampler, and abar before and after each of its calls, float64."""
        rollout, schedule = self.config["rollout"], self.networks.schedule
        sampler = DDIMScheduler.from_config(schedule.config)
        sampler.set_timesteps(rollout["steps"])
        self.timesteps = sampler.timesteps.tolist()
        stride = schedule.config.num_train_timesteps // rollout["steps"]
        abar = lambda t: float(sampler.alphas_cumprod[t] if t >= 0 else sampler.final_alpha_cumprod)
        self.levels = [(abar(t), abar(t - stride)) for t in self.timesteps]

    # The policy at transitions

    def conditions(self, embeds):
        size = self.networks.resolution(self.config)
        time_ids = torch.tensor([[size, size, 0, 0, size, size]] * len(embeds), dtype=self.networks.dtype)
        return [time_ids, *(torch.stack([x[i] for x in embeds]) for i in range(len(embeds[0])))]

    def guided(self, which, kept):
        """Guided predictions in the network's own parameterisation, [M, C, h, w] float64, and their x_t."""
        x = torch.stack([self.kept.row(k["from"]) for k in kept])
        t = torch.tensor([self.timesteps[k["call"]] for k in kept])
        scale = self.config["rollout"]["guidance_scale"]
        with_prompt = self.networks.predict(which, x, t, self.conditions([self.embeds[k["prompt"]] for k in kept])).double()
        if scale == 1:
            return with_prompt, x.double()
        without = self.networks.predict(which, x, t, self.conditions([self.empty] * len(kept))).double()
        return without + scale * (with_prompt - without), x.double()

    def means(self, said, x, kept):
        """mu [M, C, h, w] and sigma [M] of DDIM steps with eta."""
        column = lambda values: torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)
        now, after = (column([self.levels[k["call"]][i] for k in kept]) for i in (0, 1))
        a, s = now.sqrt(), (1 - now).sqrt()
        x0 = a * x - s * said if self.networks.is_v else (x - s * said) / a
        noise = a * said + s * x if self.networks.is_v else said
        sigma = self.config["rollout"]["eta"] * ((1 - after) / (1 - now) * (1 - now / after)).sqrt()
        return after.sqrt() * x0 + (1 - after - sigma**2).clamp(min=0).sqrt() * noise, sigma.view(-1)

    def ratios(self, kept):
        """r [M] with its graph, the distance from the start model [M] or None."""
        said, x = self.guided("policy", kept)
        mean, sigma = self.means(said, x, kept)
        end = torch.stack([self.kept.row(k["to"]) for k in kept]).double()
        column = sigma.view(-1, 1, 1, 1)
        own = (-((end - mean) / column) ** 2 / 2 - column.log() - math.log(2 * math.pi) / 2).mean((1, 2, 3))
        r = own - torch.tensor([k["log_prob"] for k in kept], dtype=torch.float64)
        if self.method.get("ratio_norm"):
            old = torch.stack([self.kept.row(k["mean"]) for k in kept]).double()
            r = ((mean - old) * (end - old) / column).mean((1, 2, 3))
        if self.name == "dpok":
            start, _ = self.guided("start", kept)
            return r, ((said - start) ** 2).mean((1, 2, 3))
        if self.method.get("kl_beta"):
            start, _ = self.means(*self.guided("start", kept), kept)
            return r, ((mean - start) ** 2).mean((1, 2, 3)) / (2 * sigma**2)
        return r, None

    # Losses of units

    def order(self):
        """Units in the order of training."""
        units = self.kept.units
        if self.name == "dense-reward":
            return list(range(len(units)))
        groups = {}
        for i, unit in enumerate(units):
            groups.setdefault(unit["group"], []).append(i)
        groups, out = [groups[g] for g in sorted(groups)], []
        for g in torch.randperm(len(groups), generator=self.draws.generator("choose", 0, "groups", 0)).tolist():
            within_group = torch.randperm(len(groups[g]), generator=self.draws.generator("choose", 0, "units", 0, g))
            out += [groups[g][i] for i in within_group.tolist()]
        return out

    def bounds(self):
        clamp = self.method["clamp"]
        return (-clamp, clamp) if self.name == "dense-reward" else (math.log1p(-clamp), math.log1p(clamp))

    def losses(self, units, r, drift):
        """Losses [n] and logits [n] or None. `r` by transition."""
        low, high = self.bounds()
        held = r.clamp(low, high)
        if self.name in PAIRS:
            logits = torch.stack([self.method["beta"] * (held[u["members"][0][0]] - held[u["members"][1][0]]) for u in units])
            return -logsigmoid(logits), logits
        if self.name in SINGLE:
            rows = torch.tensor([u["members"][0][0] for u in units])
            clip = self.method["advantage_clip"]
            a = torch.tensor([u["advantage"] for u in units], dtype=torch.float64).clamp(-clip, clip)
            rho, clamp = r[rows].exp(), self.method["clamp"]
            loss = torch.maximum(-a * rho, -a * rho.clamp(1 - clamp, 1 + clamp))
            weight = self.method.get("kl_ratio") or self.method.get("kl_beta") or 0.0
            return (loss + weight * drift[rows] if weight else loss), None
        losses, logits = [], []
        for unit in units:
            order = sorted(range(len(unit["scores"])), key=lambda j: -unit["scores"][j])
            l = torch.stack([self.method["scale"] * held[torch.tensor(unit["members"][j])].mean() for j in order])
            losses.append(sum(torch.logsumexp(l[j:], 0) - l[j] for j in range(len(l))))
            logits.append(l[0] - l[-1])
        return torch.stack(losses), torch.stack(logits)

    def held(self, units, r, margin):
        """Share of the transitions read whose gradient the clamp removes; those near an edge may count either way."""
        low, high = self.bounds()
        counts = []
        for edge in (0.0, margin, -margin):
            hits, read = 0, 0
            for unit in units:
                for row in (x for member in unit["members"] for x in member):
                    above, below = r[row] > high + edge, r[row] < low - edge
                    a = unit["advantage"]
                    hits += int((above and a > 0) or (below and a < 0)) if self.name in SINGLE else int(above or below)
                    read += 1
            counts.append(hits / read)
        return Figure(counts[0], counts[0] - counts[1], counts[2] - counts[0])

    def next_step(self):
        """Figures of the next update, the weights moved by it."""
        self.step += 1
        order = self.order()
        first = (self.step - 1) * self.per_step
        units = [self.kept.units[order[i % len(order)]] for i in range(first, first + self.per_step)
                 if i < len(order) or self.config["rollout"].get("updates_per_iteration")]
        used = sorted({row for unit in units for member in unit["members"] for row in member})
        place = {row: i for i, row in enumerate(used)}
        units = [unit | {"members": [[place[row] for row in member] for member in unit["members"]]} for unit in units]
        self.optimizer.zero_grad()
        r, drift = self.ratios([self.kept.kept[row] for row in used])
        losses, logits = self.losses(units, r, drift)
        losses.mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.networks.trained, self.config["optim"]["max_grad_norm"])
        self.optimizer.step()
        return self.figures(units, r.detach(), drift, losses.detach(), logits, norm)

    def figures(self, units, r, drift, losses, logits, norm):
        tolerances = Tolerances.of_step(self.step)
        allowed = tolerances.h * r.abs().mean() + 1e-6
        read = torch.tensor([row for unit in units for member in unit["members"] for row in member])
        steep = self.method.get("beta", self.method.get("scale", 1.0)) if self.name not in SINGLE else 5.0
        figures = {
            "loss": within(losses.mean(), steep * allowed + 1e-6),
            "log_ratio": within(r[read].mean(), allowed),
            "approx_kl": within((r[read] ** 2).mean() / 2, r.abs().mean() * allowed + 1e-12),
            "clamped_fraction": self.held(units, r, allowed),
            "grad_norm": relative(norm, 10 * tolerances.grad_norm),
            "lr": relative(self.lr, tolerances.exact),
            "epoch": relative(self.step / self.kept.updates, tolerances.exact),
        }
        if drift is not None:
            name = "noise_pred_drift" if self.name == "dpok" else "start_kl"
            figures[name] = within(drift.detach()[read].mean(), 10 * tolerances.h * drift.detach().mean() + 1e-9)
        if logits is not None:
            logits = logits.detach()
            figures["implicit_acc"] = share(logits, steep * allowed)
            figures["gradient_factor"] = within(torch.sigmoid(-logits).mean(), steep * allowed)
            if "beta" in self.method:
                figures["beta"] = relative(self.method["beta"], tolerances.exact)
        return figures
