//! Every table and key of a run's configuration except [method], whose keys the objectives declare.

use super::choices::*;
use super::scorers;
use crate::data::batches::{Posterior, TimeIds};
use crate::data::cache::CacheDtype;
use crate::data::items::Ties;
use crate::keys::{Choice as _, Default::*, Key, Kind::*, Range, auto, key};
use crate::scorers::Shaping;
use pipelines::models::Recompute;
use pipelines::schedulers::PredictionType;

const COUNT: crate::keys::Kind = Int { min: 0, max: i64::MAX };
const AT_LEAST_ONE: crate::keys::Kind = Int { min: 1, max: i64::MAX };
/// Products of these stay far below 2^63, so that positions of a run can be numbered.
const STEPS: crate::keys::Kind = Int { min: 1, max: 1_000_000_000 };
const PAIRS: crate::keys::Kind = Int { min: 1, max: 65_536 };

/// A table of the configuration.
pub struct Table {
    pub name: &'static str,
    pub keys: &'static [Key],
}

pub const TABLES: &[Table] = &[
    Table { name: "model", keys: MODEL },
    Table { name: "data", keys: DATA },
    Table { name: "validate", keys: VALIDATE },
    Table { name: "timesteps", keys: TIMESTEPS },
    Table { name: "reference", keys: REFERENCE },
    Table { name: "safeguard", keys: SAFEGUARD },
    Table { name: "weights", keys: WEIGHTS },
    Table { name: "lora", keys: LORA },
    Table { name: "optim", keys: OPTIM },
    Table { name: "ema", keys: EMA },
    Table { name: "train", keys: TRAIN },
    Table { name: "sample", keys: SAMPLE },
    Table { name: "rollout", keys: ROLLOUT },
    Table { name: "reward", keys: REWARD },
    Table { name: "log", keys: LOG },
];

const MODEL: &[Key] = &[
    key("path", Text, Required, "model folder in the diffusers layout, single .safetensors file, or hub id org/name"),
    key("revision", Text, Absent, "branch, tag or commit of a hub id; default: main"),
    key(
        "variant",
        Text,
        Absent,
        "of the weight files, fp16 for example; default: plain files, fp16 where there are none",
    ),
    key("unet", Text, Absent, "start from the UNet of this folder"),
    key("vae", Text, Absent, "take the VAE from this folder or .safetensors file"),
    key("clip_skip", COUNT, Toml("0"), "text encoder layers to skip, as diffusers counts them"),
    auto(
        "dtype",
        Choice(&["float32", "bfloat16", "float64"], &[]),
        Toml("\"auto\""),
        "CPU float32, CUDA bfloat16 compute; trained weights are float32 masters",
    ),
    auto("device", Text, Toml("\"auto\""), "cpu, cuda or cuda:N"),
    auto("prediction_type", Choice(&PredictionType::NAMES, &[]), Toml("\"auto\""), "the model's own, unless given"),
    auto(
        "zero_terminal_snr",
        Bool,
        Toml("\"auto\""),
        "whether the noise schedule ends at pure noise; auto: the model's own",
    ),
    key(
        "time_ids",
        Choice(TimeIds::NAMES, &[]),
        Absent,
        "SDXL only, default \"true_sizes\": size and crop inputs of a picture; constant: (R, R, 0, 0, R, R)",
    ),
];

const DATA: &[Key] = &[
    key("path", Text, Required, "pairs.jsonl, or a folder holding exactly one data file"),
    auto(
        "format",
        Choice(&["pairs", "lists", "labels"], &["pickapic", "hpdv2", "webdataset", "imagefolder"]),
        Toml("\"auto\""),
        "follows from the fields",
    ),
    auto("resolution", Int { min: 8, max: 8192 }, Toml("\"auto\""), "pixels; auto: sample_size x VAE factor"),
    key("crop", Choice(Crop::NAMES, &[]), Toml("\"center\""), "of the longer side"),
    key("crops", Int { min: 2, max: 1024 }, Toml("4"), "how many offsets a random crop chooses from"),
    key("flip", Real(Range::UNIT), Toml("0.5"), "probability of a horizontal flip, drawn for each image"),
    key("ties", Choice(Ties::NAMES, &[]), Toml("\"drop\""), "rows labelled as ties; keep: todo only"),
    key("labels", Text, Toml("\"given\""), "who ranks the pairs: \"given\", \"score:NAME\" or \"vote:A,B,..\""),
    key("draws_per_pair", COUNT, Toml("0"), "0: new draws every epoch; K: epoch e repeats those of e mod K"),
    key("posterior", Choice(Posterior::NAMES, &[]), Toml("\"sample\""), "of the VAE"),
    key("cache_dir", Text, Absent, "encoded images and prompts; default ~/.cache/diffpref"),
    key("cache_dtype", Choice(CacheDtype::NAMES, &[]), Toml("\"float32\""), "of cached latents and embeddings"),
    key("max_bad_fraction", Real(Range::UNIT), Toml("0.01"), "share of unreadable items above which the run stops"),
    auto("workers", Int { min: 1, max: 256 }, Toml("\"auto\""), "threads that decode images"),
];

const VALIDATE: &[Key] = &[
    key("fraction", Real(Range::FRACTION), Toml("0.05"), "share of the prompts held out"),
    key("path", Text, Absent, "another data file instead of a share"),
    key("prompts", TextsOrFile, Absent, "of methods that sample: prompts that are not trained on, a list or a file"),
    key("every", COUNT, Toml("100"), "steps between validations; 0: off"),
    key(
        "draws",
        Int { min: 1, max: 1000 },
        Toml("4"),
        "fixed (timestep, noise) draws for each pair, or pictures of each prompt",
    ),
    key("max_pairs", AT_LEAST_ONE, Toml("64"), "held-out pairs used"),
];

const TIMESTEPS: &[Key] = &[
    key("law", Choice(LawName::NAMES, &[]), Toml("\"uniform\""), "how t is drawn"),
    key("gamma", Real(GAMMA), Toml("0.9"), "discounted: weight of a bin over the noisier one before it"),
    key("n_bins", Int { min: 1, max: 1000 }, Toml("50"), "discounted: bins of equal width"),
    key("values", Ints { min: 0, max: i64::MAX }, Absent, "list: the timesteps to draw from"),
    key("min", COUNT, Toml("0"), "smallest timestep"),
    key("max", COUNT, Absent, "largest timestep; default: the model's last"),
    key(
        "weighting",
        Choice(TimestepWeighting::NAMES, &[]),
        Toml("\"none\""),
        "lambda(t) on the logit, from 1 at low to 2 at high noise",
    ),
];

/// (0, 1]
const GAMMA: Range = Range { low: 0.0, high: 1.0, low_open: true, high_open: false };

const SAFEGUARD: &[Key] = &[
    key("name", Choice(SafeguardName::NAMES, &[]), Toml("\"none\""), "sdpo: losers may not push against their winners"),
    key("mu", Real(Range::UNIT), Absent, "default: the method's and the family's, 0.9 or 0.6 for most"),
];

const WEIGHTS: &[Key] = &[
    key(
        "source",
        Choice(WeightsFrom::NAMES, &[]),
        Toml("\"none\""),
        "column: `weight` of the row; videodpo: (c / `weight`)^b",
    ),
    key("b", Real(Range::NOT_NEGATIVE), Toml("1.0"), "videodpo"),
    key("c", Real(Range::POSITIVE), Toml("0.72"), "videodpo"),
    key("as_published", Bool, Toml("false"), "weights as they are, not divided by their mean"),
];

const REFERENCE: &[Key] = &[
    key("kind", Choice(ReferenceKind::NAMES, &[]), Toml("\"frozen\""), "updated: the policy of some steps ago"),
    key("every", AT_LEAST_ONE, Toml("32"), "updated: steps between copies"),
    key(
        "divergence_limit",
        Real(Range::POSITIVE),
        ByFamily("0.005"),
        "updated: mean error gained over the start model at which the copies end",
    ),
    key("divergence_ema", Real(Range::FRACTION), Toml("0.9"), "updated: smoothing of that gain; 0: none"),
    auto("ledger", Choice(&["off"], &["on"]), Toml("\"auto\""), "stored reference errors"),
    key("placement", Choice(&["device"], &["cpu"]), Toml("\"device\""), "device of the reference"),
];

const LORA: &[Key] = &[
    key("rank", Int { min: 0, max: 8192 }, Toml("0"), "0: full fine-tune"),
    key("alpha", Real(Range::POSITIVE), Absent, "scale = alpha / rank; default: the rank"),
    key("targets", Texts, Toml("[\"to_q\", \"to_k\", \"to_v\", \"to_out.0\"]"), "module names, matched as suffixes"),
    key("init", Text, Absent, "start weights: a LoRA file; the reference is the model with it"),
];

const OPTIM: &[Key] = &[
    key(
        "name",
        Choice(&["adamw", "adafactor"], &["adamw8bit"]),
        Toml("\"adamw\""),
        "torch.optim.AdamW, or transformers' Adafactor",
    ),
    key("lr", Real(Range::POSITIVE), Required, "learning rate, as the optimizer sees it"),
    key("lr_scale", Choice(LrScale::NAMES, &[]), Toml("\"none\""), "global_batch: lr x pairs per step"),
    key("betas", RealPair(Range::FRACTION), Toml("[0.9, 0.999]"), "decay of the moments; adamw only"),
    key("eps", Real(Range::POSITIVE), Toml("1e-8"), "added to the denominator; adamw only"),
    key("weight_decay", Real(Range::NOT_NEGATIVE), Toml("0.01"), "decoupled"),
    key("max_grad_norm", Real(Range::POSITIVE), Toml("1.0"), "global gradient norm is clipped to this"),
    key("schedule", Choice(Schedule::NAMES, &[]), Toml("\"constant\""), "after warm-up"),
    key("warmup_steps", COUNT, Toml("0"), "linear warm-up"),
];

const EMA: &[Key] =
    &[key("decay", Real(Range::FRACTION), Toml("0.0"), "0: none; ema <- decay ema + (1 - decay) weights")];

const TRAIN: &[Key] = &[
    key("out", Text, Absent, "run folder; default runs/<config file name>"),
    key("steps", STEPS, Absent, "optimizer steps (or epochs)"),
    key(
        "epochs",
        Real(Range::POSITIVE),
        Absent,
        "passes over the training pairs, or iterations of [rollout] (or steps)",
    ),
    key("micro_batch", PAIRS, Toml("1"), "pairs that go through the network together"),
    key("grad_accum", PAIRS, Absent, "micro-batches a step; default 1"),
    key("pairs_per_step", PAIRS, Absent, "instead of grad_accum: a multiple of micro_batch"),
    key("seed", Int { min: 0, max: i64::MAX }, Toml("0"), "of every random stream"),
    auto("threads", Int { min: 1, max: 1024 }, Toml("\"auto\""), "of libtorch"),
    key("checkpoint_every", AT_LEAST_ONE, Toml("200"), "steps"),
    key("keep_last", AT_LEAST_ONE, Toml("2"), "whole checkpoints kept"),
    key("keep_every", AT_LEAST_ONE, Absent, "checkpoints at multiples of this stay"),
    key(
        "gradient_checkpointing",
        Choice(&Recompute::NAMES, &[]),
        Toml("\"none\""),
        "recompute instead of storing: less memory, more time",
    ),
    auto("pair_split", Choice(&["off"], &["on"]), Toml("\"auto\""), "winner and loser one after the other"),
    key("on_spike", Choice(OnSpike::NAMES, &[]), Toml("\"warn\""), "when the gradient norm leaves its recent range"),
    key("overwrite", Bool, Toml("false"), "delete what the run folder holds"),
];

const SAMPLE: &[Key] = &[
    key("every", COUNT, Toml("200"), "steps between sample grids; 0: off"),
    key("prompts", TextsOrFile, Absent, "a list, or a file; default: the first 4 validation prompts, or of [rollout]"),
    key("seeds", Ints { min: 0, max: i64::MAX }, Toml("[0, 1]"), "one picture for each prompt and seed"),
    key("steps", Int { min: 1, max: 1000 }, Toml("25"), "of the sampler"),
    key("guidance_scale", Real(Range::NOT_NEGATIVE), Absent, "default: 7.5, SDXL 5"),
    key("scheduler", Choice(&["ddim", "pndm", "dpmpp_2m", "euler", "euler_a"], &[]), Toml("\"ddim\""), "sampler"),
];

const ROLLOUT: &[Key] = &[
    key("prompts", TextsOrFile, Required, "what the method samples pictures of: a list of prompts, or a file of them"),
    key("prompts_per_iteration", PAIRS, Absent, "default: 8, or all where there are fewer"),
    key("trajectories", PAIRS, Absent, "of a prompt in an iteration; default: the method's"),
    key("steps", Int { min: 1, max: 1000 }, Absent, "of DDIM in a trajectory; default: the method's"),
    key("eta", Real(Range::UNIT), Absent, "share of DDPM's noise that a step adds; default: the method's"),
    key("guidance_scale", Real(Range::NOT_NEGATIVE), Absent, "of the trajectories; default: the method's"),
    auto(
        "updates_per_iteration",
        STEPS,
        Toml("\"auto\""),
        "steps before new pictures; auto: one pass over what was kept",
    ),
    key("buffer", Choice(Buffer::NAMES, &[]), Toml("\"memory\""), "where the trajectories of an iteration lie"),
    key("batch", PAIRS, Toml("8"), "trajectories that are sampled together"),
];

const REWARD: &[Key] = &[
    key(
        "scorers",
        Checked { check: scorers::check_weighed, words: "a list of { name, weight = 1, path }" },
        Required,
        "who rates the pictures that the method samples",
    ),
    key(
        "shaping",
        Choice(Shaping::NAMES, &[]),
        Toml("\"none\""),
        "how the ratings of a prompt's pictures become rewards",
    ),
    key(
        "watch",
        Checked { check: scorers::check_watched, words: "a list of { name, path }" },
        Toml("[]"),
        "scorers that rate too, and are only reported",
    ),
];

const LOG: &[Key] = &[
    key("tensorboard", Bool, Toml("true"), "write event files"),
    key("every", AT_LEAST_ONE, Toml("1"), "steps between TensorBoard points and plain progress lines"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::schedulers::SCHEDULERS;

    #[test]
    fn samples_take_every_sampler_that_is_built() {
        let key = SAMPLE.iter().find(|key| key.name == "scheduler").unwrap();
        let Choice(built, unbuilt) = key.kind else { panic!("{:?}", key.kind) };
        assert_eq!((built.len(), unbuilt.len()), (SCHEDULERS.len(), 0));
        assert!(SCHEDULERS.iter().all(|scheduler| built.contains(&scheduler.name)));
    }
}
