"""The moving reference of methods.md 2a: a copy of the policy every few steps, until its errors have grown too far."""

import torch

from .compare import within


class Reference:
    """Decides after every step whether the reference becomes the policy."""

    def __init__(self, config, networks):
        self.table, self.networks = config.get("reference", {}), networks
        self.moves = self.table.get("kind") == "updated"
        self.copied = self.frozen = False
        self.sum = self.count = 0

    def due(self, step):
        return self.moves and not self.frozen and step % self.table["every"] == 0

    def looks(self, step):
        """Whether the start model's errors are needed in a step: before the first copy the reference is the start model."""
        return self.due(step) and self.copied

    def after(self, step, b, tolerances):
        """Figures of the reference after a step."""
        if not self.due(step):
            return {}
        figures = {}
        if self.copied:
            best = self.best(b)
            start, now = b.other["start"][best], b.ref[best]
            allowed = tolerances.of_h(now - start, torch.maximum(now, start)).mean()
            rho, divergence = self.table["divergence_ema"], float((now - start).mean())
            self.count += 1
            self.sum = rho * self.sum + (1 - rho) * divergence
            smoothed = self.sum / (1 - rho**self.count)
            figures = {"divergence": within(divergence, allowed), "divergence_smoothed": within(smoothed, allowed)}
            if smoothed > self.table["divergence_limit"]:
                self.frozen = True
                return figures | {"reference_frozen": within(1, 0)}
        self.networks.move_reference()
        self.copied = True
        return figures | {"reference_copied": within(1, 0)}

    @staticmethod
    def best(b):
        """Pictures of the guard's errors: winners, desirable images, the best of each list."""
        if not b.listed:
            return b.w if not b.paired else b.w[~b.tie]
        return torch.tensor([max(x, key=lambda i: (b.phi[i].item(), -i)) for x in b.lists])
