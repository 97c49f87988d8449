"""The figures of a step or a validation, each with the tolerance that rounding allows it (docs/determinism.md)."""

import math

import torch

from .compare import Figure, relative, share, within
from .losses import factor
from .weights import EDGES


class Rounding:
    """How far rounding may move what a batch holds: of pictures [N] and of pairs [m]."""

    def __init__(self, b, tolerances):
        errors = b.theta.detach() if b.ref is None else torch.maximum(b.theta.detach(), b.ref)
        largest = torch.stack([errors[list(x)].max() for x in b.lists])[b.owner]
        self.e = tolerances.e * b.theta.detach()
        if b.ref is None:
            self.image = self.e
            return
        h = b.h.detach()
        self.image = tolerances.of_h(h, largest)
        if b.paired:
            self.h = h[b.w] - h[b.l]
            self.pair = tolerances.of_h(self.h, largest[b.w])

    def of_loss(self, b, loss, tolerances):
        """Of a loss: errors move it by its derivative in them. Of a pair they move together, so that only h does."""
        (slope,) = torch.autograd.grad(loss, b.theta, retain_graph=True, allow_unused=True)
        slope = torch.zeros_like(b.theta) if slope is None else slope
        if b.name == "pmpo":  # of the errors themselves, with either sign
            moved = (slope.abs() * self.e).sum()
        elif b.ref is None or b.listed or not b.paired:
            moved = (slope.abs() * (self.image + (self.image.mean() if not b.paired else 0))).sum()
        else:
            apart, together = (slope[b.w] - slope[b.l]) / 2, (slope[b.w] + slope[b.l]) / 2
            moved = (apart.abs() * self.pair + together.abs() * (self.image[b.w] + self.image[b.l])).sum()
            if b.name == "bco":
                moved = moved + slope.abs().sum() * self.image.mean()
        # A logistic loss is at most e^x steeper where its logit moves by x.
        steeper = 1.0 if b.scale is None else math.exp(min(float((b.scale.max() * self.image.max())), 1.0))
        return float(moved * steeper + 2 * tolerances.e * loss.detach().abs()) + 1e-6


def error_figures(b, tolerances, rounding):
    """Mean errors and rewards of both sides; of a side that has no picture, nothing."""
    figures = {}
    sides = {"w": b.w} if b.name == "sft" else {"w": b.w, "l": b.l}
    for side, chosen in sides.items():
        chosen = chosen if not b.paired else chosen[~b.tie]
        if not len(chosen):
            continue
        figures[f"model_mse_{side}"] = relative(b.theta.detach()[chosen].mean(), tolerances.e)
        if b.ref is None:
            continue
        h, allowed = b.h.detach()[chosen].mean(), rounding.image[chosen].mean()
        figures[f"ref_mse_{side}"] = relative(b.ref[chosen].mean(), tolerances.e)
        figures[f"reward_{side}"], figures[f"gap_{side}"] = within(h, allowed), within(-h, allowed)
    return figures


def pair_figures(b, rounding, train_timesteps):
    """Margins and logits of every preferred pair; ties are none."""
    kept = ~b.tie
    h, t_h, u = rounding.h[kept], rounding.pair[kept], b.u.detach()[kept]
    if not len(h):
        return {}
    t_u = (b.scale[b.w].abs() * rounding.pair)[kept]
    if b.name == "smpo":
        t_u = t_u * factor(b)[kept]
    if b.name == "hypo":
        t_u = (b.scale[b.w] * (rounding.image[b.w] + rounding.image[b.l] + rounding.e[b.w] + rounding.e[b.l]))[kept]
    negative, below = (h < 0).double().mean(), (h < -t_h).double().mean()
    tenths, t = [], b.timesteps[b.owner[b.w]][kept]
    for tenth in range(10):
        chosen = (t * 10) // train_timesteps == tenth
        tenths.append(within(h[chosen].mean(), t_h[chosen].mean()) if chosen.any() else None)
    return {
        "implicit_acc": share(u, t_u),
        "margin": within(h.mean(), t_h.mean()),
        "gradient_factor": within(torch.sigmoid(-u).mean(), 0.25 * t_u.mean() + 1e-6),
        "negative_margin": Figure(float(negative), float(negative - below), float((h <= t_h).double().mean() - negative)),
        "margin_by_t": tenths,
    }


def weight_figures(effective, tolerance):
    """weight_mean, and the shares of weight_hist; a weight at an edge may count either way."""
    shares = []
    for low, high in zip((-math.inf, *EDGES), (*EDGES, math.inf)):
        inside = ((effective >= low) & (effective < high)).double().mean()
        surely = ((effective >= low * (1 + tolerance)) & (effective < high * (1 - tolerance))).double().mean()
        perhaps = ((effective >= low * (1 - tolerance)) & (effective < high * (1 + tolerance))).double().mean()
        shares.append(Figure(float(inside), float(inside - surely), float(perhaps - inside)))
    return {"weight_mean": relative(effective.mean(), tolerance + 1e-6), "weight_hist": shares}


def validation_figures(b, draws, loss, tolerances, rounding):
    """val_* of a batch of items x draws, the draws of an item one after the other."""
    figures = {"val_loss": within(loss.detach(), rounding.of_loss(b, loss, tolerances))}
    if not b.paired:
        return figures
    kept = [i for i in range(0, b.n, draws) if not b.items[i].tie]
    if not kept:
        return figures
    pictures = [[extremes(b.items[i], b.lists[i + j]) for j in range(draws)] for i in kept]
    w, l = torch.tensor(pictures).unbind(-1)  # [items, draws]
    h_w, h_l = b.h.detach()[w], b.h.detach()[l]
    h, largest = h_w - h_l, torch.stack([b.theta.detach()[w], b.theta.detach()[l], b.ref[w], b.ref[l]]).amax(0)
    t_h, t_w, t_l = (tolerances.of_h(x, largest) for x in (h, h_w, h_l))
    figures |= {"val_implicit_acc": share(h.mean(1), t_h.mean(1)), "val_margin": within(h.mean(), t_h.mean()),
                "val_gap_w": within(-h_w.mean(), t_w.mean()), "val_gap_l": within(-h_l.mean(), t_l.mean())}
    by_prompt = {}
    for i, value in zip(kept, h.mean(1).tolist()):
        by_prompt.setdefault(b.items[i].prompt, []).append(value)
    means = torch.tensor([sum(x) / len(x) for x in by_prompt.values()], dtype=torch.float64)
    if len(means) > 1:
        half = 1.96 * means.std().item() / math.sqrt(len(means))
        allowed = float(t_h.mean() + t_h.mean(1).amax() * 1.96 / math.sqrt(len(means)))
        figures["val_margin_lo"] = within(means.mean().item() - half, allowed)
        figures["val_margin_hi"] = within(means.mean().item() + half, allowed)
    return figures


def extremes(item, pictures):
    """(best, worst) of an item's pictures [k]: winner and loser, or by phi, ties in the list's order."""
    if not item.phi:
        return pictures[0], pictures[1]
    order = sorted(range(len(item.phi)), key=lambda i: -item.phi[i])
    return pictures[order[0]], pictures[order[-1]]
