"""Rows of the table: recipes, training seeds, and how each is judged."""

import difflib
from dataclasses import dataclass, replace

SEEDS = (0, 1, 2)

# Group -> names of recipes, configs/NAME-demo.toml. The page keeps this order.
GROUPS = {
    "Core methods": ("sft", "dpo", "dpo-samples", "dpo-safeguard", "timestep-aware", "inpo", "smpo", "npo", "dpo-npo"),
    "Timesteps, labels and weights around dpo": ("dense-timesteps", "balanced", "videodpo"),
    "Other losses on pairs": (
        *("dspo_score", "dspo_sq", "dmpo", "mapo", "ipo", "hinge", "cdpo", "cream", "rdpo", "odpo", "focalpo", "dpo_shift", "rpo", "todo"),
        *("wpo", "mappo", "nca", "bco", "sppo_hard", "apo_zero", "apo_down", "discopop", "hypo"),
        *("aot", "aot_unpaired", "relative_po", "uapo"),
    ),
    "Lists": ("rankdpo", "lipo_lambda", "plackett_luce", "mpo"),
    "Single labelled pictures": ("kto", "pmpo"),
}
# A row exists once its recipe does.
SAMPLING = "Methods that sample while they train"
SAMPLING_NAMES = ("d3po", "spo", "tailorpo", "ddpo", "dpok", "dense-reward", "self_npo")
OTHERS = "Recipes of no group"
SEVERAL_SEEDS = {"dpo", "spo", "ddpo", "dense-reward"}
NEGATIVE = ("npo", "self_npo")  # they train the negative side of guidance
TITLES = {"dpo-safeguard": "dpo + safeguard", "dpo-samples": "dpo, pairs of the model's own samples", "dpo-npo": "dpo guided against npo"}
TITLES |= {name: f"base guided against {name}" for name in NEGATIVE}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    group: str
    seeds: tuple
    recipe: str  # the NAME of configs/NAME-demo.toml; "": the row paints with the LoRAs of other rows
    sets: tuple = ()  # overrides of the recipe
    positive: str = ""  # row of the LoRA on the positive side of guidance, with `negative`; "": none
    negative: str = ""  # row of the LoRA on the negative side: the row is judged by guiding against it

    @property
    def title(self):
        return TITLES.get(self.name, self.name)

    @property
    def parents(self):
        """Rows to train first."""
        return tuple(name for name in (self.positive, self.negative) if name and name != self.name)


def _row(name, group):
    row = Row(name, group, SEEDS if name in SEVERAL_SEEDS else SEEDS[:1], name)
    if name == "dpo-safeguard":
        return replace(row, recipe="dpo", sets=("safeguard.name=sdpo",))
    if name == "dpo-samples":
        return replace(row, recipe="dpo", sets=("data.path=assets/testbed/pairs-samples.jsonl",))
    if name in NEGATIVE:
        return replace(row, negative=name)
    if name == "dpo-npo":
        return replace(row, recipe="", positive="dpo", negative="npo")
    return row


def all_rows(recipes):
    """Every row in the order of the page: those of the groups, then recipes that no group names."""
    rows = [_row(name, group) for group, names in GROUPS.items() for name in names]
    rows += [_row(name, SAMPLING) for name in SAMPLING_NAMES if name in recipes]
    known = {row.name for row in rows}
    return rows + [_row(name, OTHERS) for name in sorted(recipes) if name not in known]


def recipes_in(configs):
    """The NAMEs of the NAME-demo.toml in a folder."""
    ending = "-demo.toml"
    return sorted(file.name[: -len(ending)] for file in configs.glob("*" + ending))


def chosen(rows, only):
    """Rows named by `--only`, with the rows of their LoRAs.

    Raises ValueError with the nearest known name.
    """
    by_name = {row.name: row for row in rows}
    if not only:
        return list(rows)
    for name in only:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 1)
            hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(by_name)
            raise ValueError(f"--only {name}: there is no such row; {hint}")
    wanted = set(only).union(*(by_name[name].parents for name in only))
    return [row for row in rows if row.name in wanted]
