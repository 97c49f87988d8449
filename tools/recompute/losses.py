"""The losses of methods.md, one small function each, from the errors of a whole step (or of all validation draws).

A function gets a `Batch` and gives [m] values: one for every pair, for every list, or for every two pictures of a list; all
but the weights of `WEIGHTS` is differentiated by autograd.
"""

import math

import numpy
import torch
from torch.nn.functional import cosine_similarity, logsigmoid, relu, softplus

LOSSES, WEIGHTS, LOGITS = {}, {}, {}


def of(table, *names):
    return lambda function: [table.__setitem__(name, function) for name in names] and function


# Logits that are not simply z - y (methods.md 4, 5, 15)


@of(LOGITS, "smpo")
def smoothed(b):
    return factor(b) * (b.z - b.y)


@of(LOGITS, "hypo")
def clipped_reference(b):
    """The reference's margin counts only where it agrees with the label."""
    disagreement = relu(b.ref_w - b.ref_l)
    return b.scale_w * ((b.ref_w - b.ref_l) - disagreement - (b.theta_w - b.theta_l))


def stretched(b):
    """[m, 2] scores of winner and loser, min-max over the training set."""
    low, high = b.method["score_range"]
    return (b.scores(b.method["scorer"]) - low) / (high - low)


def factor(b):
    """Factor of a pair's logit (smpo) or of its loser's part (mappo); None without one."""
    if b.name == "smpo":
        return b.method["gamma"] * (2 * stretched(b).softmax(1)[:, 0] - 1)
    if b.name == "mappo":
        r = stretched(b)
        return (r[:, 0] - r[:, 1]).clamp(0, 1)
    return None


# Loss weights (methods.md 0.7)


@of(WEIGHTS, "wpo")
def typical(b):
    return torch.exp(-b.method["kappa"] * (b.ref_w + b.ref_l - b.wpo_mean)).clamp(max=1)


@of(WEIGHTS, "focalpo")
def confident(b):
    return torch.sigmoid(b.u.detach()) ** b.method["g"]


def gains(b, positions):
    """|G_i - G_j| |1/D_i - 1/D_j| of every two pictures, from the ranks [N] of all pictures in their lists."""
    gain, discount = 2**b.phi - 1, torch.log1p(positions.double())
    return (gain[b.w] - gain[b.l]).abs() * (1 / discount[b.w] - 1 / discount[b.l]).abs()


def positions(values, lists):
    """[N] 1-based places in each list by descending value, ties as they come."""
    places = torch.empty(len(values), dtype=torch.long)
    for members in lists:
        order = sorted(members, key=lambda i: -values[i].item())
        for place, i in enumerate(order):
            places[i] = place + 1
    return places


@of(WEIGHTS, "rankdpo")
def by_label(b):
    return gains(b, positions(b.phi, b.lists))


@of(WEIGHTS, "lipo_lambda")
def by_model(b):
    s = (b.scale * b.h).detach()
    return gains(b, positions((s * 1000).round(), b.lists))


# Losses of pairs


@of(LOSSES, "dpo", "inpo", "smpo", "npo", "wpo", "focalpo", "rankdpo", "lipo_lambda", "hypo")
def dpo(b):
    return -logsigmoid(b.u)


@of(LOSSES, "sft")
def sft(b):
    return b.native[b.w]


@of(LOSSES, "hinge")
def hinge(b):
    return relu(1 - b.u)


@of(LOSSES, "ipo")
def ipo(b):
    return (b.u - 0.5).square()


@of(LOSSES, "cdpo")
def cdpo(b):
    noise = b.method["label_noise"]
    return -(1 - noise) * logsigmoid(b.u) - noise * logsigmoid(-b.u)


@of(LOSSES, "cream")
def cream(b):
    c = b.scores("confidence" if b.method["confidence"] == "dyn" else "mean_confidence")
    return -c[:, 0] * logsigmoid(b.u) - c[:, 1] * logsigmoid(-b.u)


@of(LOSSES, "rdpo")
def rdpo(b):
    noise, u = b.method["label_noise"], b.u.clamp(max=10)
    return (-(1 - noise) * logsigmoid(u) + noise * logsigmoid(-u)) / (1 - 2 * noise)


@of(LOSSES, "dmpo")
def dmpo(b):
    p, q = torch.sigmoid(b.u).clamp(1e-6, 1 - 1e-6), 1 - b.method["alpha"]
    return p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))


@of(LOSSES, "odpo")
def odpo(b):
    scores = b.scores(b.method["scorer"])
    gap = b.method["gap_scale"] * (scores[:, 0] - scores[:, 1])
    offset = gap if b.method["transform"] == "identity" else gap.clamp(min=1e-3).log()
    return -logsigmoid(b.u - b.method["alpha"] * offset)


@of(LOSSES, "dpo_shift")
def dpo_shift(b):
    start, end = b.method["lam"], b.method.get("lam_end")
    lam = start if end is None else start + (end - start) * b.progress
    return -logsigmoid(b.z - lam * b.y)


@of(LOSSES, "rpo")
def rpo(b):
    return -logsigmoid(b.u) + b.method["eta"] * 0.5 * b.beta * b.theta_w


@of(LOSSES, "todo")
def todo(b):
    a = b.method["a"]
    tie = softplus(a + b.u) + softplus(a - b.u) - math.log(math.expm1(2 * a))
    return torch.where(b.tie, tie, -logsigmoid(b.u - a))


@of(LOSSES, "mappo")
def mappo(b):
    return -logsigmoid(b.z - factor(b) * b.y)


@of(LOSSES, "nca")
def nca(b):
    return -logsigmoid(b.z) - 0.5 * logsigmoid(-b.z) - 0.5 * logsigmoid(-b.y)


@of(LOSSES, "bco")
def bco(b):
    return -logsigmoid(b.z - b.bco_threshold) - logsigmoid(b.bco_threshold - b.y)


def anchored(z, y, d):
    """uapo: terms of the winners' rewards and of the losers'."""
    return -logsigmoid(z - d), -logsigmoid(d - y)


@of(LOSSES, "uapo")
def uapo(b):
    above, below = anchored(b.scale_w * b.h[b.w], b.scale[b.l] * b.h[b.l], b.uapo_anchor)
    return above + below if b.paired else torch.cat([above, below])


@of(LOSSES, "sppo_hard")
def sppo_hard(b):
    return (b.z - 0.5).square() + (b.y + 0.5).square()


@of(LOSSES, "apo_zero")
def apo_zero(b):
    return 1 - torch.sigmoid(b.z) + torch.sigmoid(b.y)


@of(LOSSES, "apo_down")
def apo_down(b):
    return torch.sigmoid(b.z) + 1 - torch.sigmoid(b.u)


@of(LOSSES, "discopop")
def discopop(b):
    tau = b.method["tau"]
    m = torch.sigmoid(b.u / tau)
    return -(1 - m) * logsigmoid(b.u) + torch.exp(logsigmoid(b.u / tau) - b.u)


@of(LOSSES, "dspo_score")
def dspo_score(b):
    difference = b.residuals[b.w] - b.ref_residuals[b.w]
    share = (b.beta * (1 - torch.sigmoid(b.u))).view(-1, 1, 1, 1)
    return (b.residuals[b.w] - share * difference).square().mean((1, 2, 3)) * b.factor[b.w]


@of(LOSSES, "dspo_sq")
def dspo_sq(b):
    squared = (b.residuals[b.w] - b.ref_residuals[b.w]).square().mean((1, 2, 3)) * b.factor[b.w]
    p = (1 - torch.sigmoid(b.u)).square()
    return torch.where(squared >= b.method["gate"], p * squared, p)


@of(LOSSES, "mapo")
def mapo(b):
    f = lambda e: b.method["v"] * e / torch.expm1(b.method["v"] * e)
    margin = f(b.theta_w) - f(b.theta_l)
    return b.theta_w - b.method["weight"] * logsigmoid(b.method["scale"] * margin)


# Losses of whole steps


def members(keys):
    """Indices of equal keys."""
    return [[i for i, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)]


def noisy(u, noise):
    return -(1 - noise) * logsigmoid(u) - noise * logsigmoid(-u)


def column(values, n):
    """[n] quantiles at (i + 1/2) / n, linear between the sorted values."""
    m = len(values)
    at, own = (numpy.arange(n) + 0.5) / n, (numpy.arange(m) + 0.5) / m
    mix = numpy.stack([numpy.interp(at, own, row) for row in numpy.eye(m)], 1)
    return torch.from_numpy(mix).to(values.dtype) @ values.sort(stable=True).values


@of(LOSSES, "aot")
def aot(b):
    """[m] losses, each of a pair, in its order."""
    a, other = -b.scale_w * (b.theta_w - b.theta_l), -b.scale_w * (b.ref_w - b.ref_l)
    terms = torch.zeros_like(a)
    for chosen in members(b.tenths(b.method["bins"])):
        chosen = torch.tensor(chosen)
        order = chosen[a[chosen].argsort(stable=True)]
        u = a[order] - other[chosen].sort(stable=True).values
        terms = terms.index_put((order,), noisy(u, b.method["label_noise"]))
    return terms


@of(LOSSES, "aot_unpaired")
def aot_unpaired(b):
    z, y, found = b.scale_w * b.h[b.w], b.scale[b.l] * b.h[b.l], []
    parts = torch.tensor(b.tenths(b.method["bins"]))
    of_w, of_l = parts[b.owner[b.w]], parts[b.owner[b.l]]
    for part in parts.unique().tolist():
        above, below = z[of_w == part], y[of_l == part]
        if len(above) and len(below):
            n = max(len(above), len(below))
            found.append(noisy(column(above, n) - column(below, n), b.method["label_noise"]))
    return torch.cat(found) if found else z[:0]


@of(LOSSES, "relative_po")
def relative_po(b):
    z, y, found = b.scale_w * b.h[b.w], b.scale[b.l] * b.h[b.l], []
    blocks, method = torch.tensor(b.blocks), b.method
    of_w, of_l = b.owner[b.w], b.owner[b.l]
    for block in blocks.unique().tolist():
        w, l = blocks[of_w] == block, blocks[of_l] == block
        if not (w.any() and l.any()):
            continue
        margins = z[w][:, None] - y[l][None, :]
        if method["form"] == "diagonal":
            k = len(margins)
            weights = torch.full((k, k), 0.2 / max(k - 1, 1)).fill_diagonal_(0.8 if k > 1 else 1.0)
            found.append(-(weights * logsigmoid(margins)).sum(1))
            continue
        p, q = b.prompts[of_w[w]], b.prompts[of_l[l]]
        weights = (-(1 - cosine_similarity(p[:, None], q[None, :], dim=2)) / method["tau"]).softmax(1)
        inside = method["weights"] == "inside"
        found.append(-logsigmoid(weights * margins).mean(1) if inside else -(weights * logsigmoid(margins)).sum(1))
    return torch.cat(found) if found else z[:0]


# Losses of labelled images and of lists


@of(LOSSES, "pmpo")
def pmpo(b):
    a, drift = b.method["a"], (b.residuals - b.ref_residuals).square().mean((1, 2, 3)) * b.factor
    pull = torch.full_like(b.theta.detach(), a).index_fill(0, b.l, a - 1)
    return 0.5 * (pull * b.theta + b.method["b"] * drift)


@of(LOSSES, "kto")
def kto(b):
    sign, weight = torch.empty_like(b.h), torch.empty_like(b.h)
    for members, y, name in ((b.w, 1.0, "lambda_d"), (b.l, -1.0, "lambda_u")):
        sign[members], weight[members] = y, b.method[name]
    v = sign * b.beta * (b.g - b.kl.clamp(min=0))
    utility = {"sigmoid": torch.sigmoid, "loss_averse": logsigmoid, "risk_seeking": lambda v: -logsigmoid(-v)}
    return weight * (1 - utility[b.method["utility"]](v))


@of(LOSSES, "plackett_luce")
def plackett_luce(b):
    s, found = b.scale * b.h, []
    for members in map(list, b.lists):
        # Images of equal rank are not compared: each is compared with itself and those ranked below it.
        below = [[k] + [j for j in members if b.phi[j] < b.phi[k]] for k in members]
        terms = [s[among].logsumexp(0) - s[among[0]] for among in below]
        found.append(torch.stack(terms).sum())
    return torch.stack(found)


@of(LOSSES, "mpo")
def mpo(b):
    s, found = b.scale * b.h, []
    for members in map(list, b.lists):
        phi = b.phi[members]
        weighted = s[members] + b.method["a"] * (phi - phi.mean()).abs()
        found.append(weighted.logsumexp(0) - weighted[phi > phi.mean()].logsumexp(0))
    return torch.stack(found)
