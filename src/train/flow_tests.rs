//! A network that is no UNet on a process without timesteps, through the trainer: two convolutions learn the velocity
//! of the flow x_s = (1 - s) x_0 + s eps.

use super::criterion::{Criterion, OwnWeights};
use super::guards::{Beta, SpikeGuard};
use super::history::{History, Statistics};
use super::learner::{Learner, Limits, MicroBatch, MicroBatches};
use super::pass::Latents;
use crate::data::batches::{Batch, BatchItem};
use crate::data::draws::Draws;
use crate::data::items::Preference;
use crate::data::timesteps::TimestepLaw;
use crate::networks::{Frozen, Machine, Networks, Policy};
use crate::objectives::{MethodSettings, find};
use crate::optimizer::Optimizer;
use crate::progress::Stop;
use crate::settings::{LrScale, OnSpike, OptimConfig, RuleConfig, Schedule};
use crate::world::Alone;
use diffpref_native::Generator;
use pipelines::families::Denoiser;
use pipelines::lora::Lora;
use pipelines::models::{AdapterHost, AdapterSet, Adapters, ConfigFile, LayerShapes, Recompute};
use pipelines::process::Coefficients;
use pipelines::schedulers::{Estimate, Sampler, SamplerOptions, Scheduler, StochasticSampler};
use pipelines::weights::{LoadOptions, ParameterShapes, WeightStore};
use pipelines::{Architecture, Conditioning, LevelRange, Levels, Network, Process};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const ITEMS: usize = 4;
const SHAPE: [i64; 3] = [4, 6, 6];

/// The target is eps - x_0, and margins compare its squared errors unchanged.
#[derive(Debug)]
struct Flow;

impl Process for Flow {
    fn range(&self) -> LevelRange {
        LevelRange::Unit
    }

    fn coefficients(&self, like: &Tensor, levels: &Levels) -> Coefficients {
        let sigma = levels.tensor().to_device(like.device()).to_kind(like.kind()).view([-1, 1, 1, 1]);
        Coefficients { signal: 1f64 - &sigma, sigma }
    }

    fn target(&self, x0: &Tensor, noise: &Tensor, _: &Levels) -> Tensor {
        noise - x0
    }

    fn split(&self, prediction: &Tensor, noisy: &Tensor, levels: &Levels) -> Estimate {
        let Coefficients { signal, sigma } = self.coefficients(noisy, levels);
        Estimate { x0: noisy - sigma * prediction, epsilon: noisy + signal * prediction }
    }

    fn error_factor(&self, levels: &Levels) -> Tensor {
        Tensor::ones([levels.rows()], (Kind::Float, levels.tensor().device()))
    }

    fn sampler(&self, _: &Scheduler, _: i64, _: &SamplerOptions) -> pipelines::Result<Box<dyn Sampler>> {
        Err(pipelines::Error::Invalid("nothing is sampled here".into()))
    }

    fn stochastic_sampler(&self, _: i64, _: f64) -> pipelines::Result<Box<dyn StochasticSampler>> {
        Err(pipelines::Error::Invalid("nothing is sampled here".into()))
    }
}

#[derive(Debug)]
struct Description(ConfigFile);

impl Architecture for Description {
    fn file(&self) -> &ConfigFile {
        &self.0
    }

    fn latent_channels(&self) -> i64 {
        SHAPE[0]
    }

    fn native_side(&self) -> i64 {
        SHAPE[1]
    }

    fn context_width(&self) -> i64 {
        0
    }

    fn conditioning(&self) -> &'static [&'static str] {
        &[]
    }

    fn parameter_shapes(&self) -> ParameterShapes {
        vec![("first.weight".into(), vec![8, 4, 3, 3]), ("second.weight".into(), vec![4, 8, 3, 3])]
    }

    fn layer_shapes(&self) -> LayerShapes {
        LayerShapes::new()
    }

    fn output_layer(&self) -> &'static str {
        "second.weight"
    }

    fn shape(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn computation(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn original_name(&self, _: &str) -> Option<String> {
        None
    }

    fn kohya_name(&self, path: &str) -> String {
        path.into()
    }

    fn load(&self, _: WeightStore, _: &LoadOptions) -> pipelines::Result<Box<dyn Network>> {
        Ok(Box::new(Convolutions::new()))
    }
}

/// conv, silu, conv; the level is added to the latents.
#[derive(Debug)]
struct Convolutions {
    description: Description,
    parameters: Vec<(String, Tensor)>,
}

impl Convolutions {
    fn new() -> Self {
        let file = ConfigFile::parse(Path::new("config.json"), "{}").unwrap();
        let (description, mut generator) = (Description(file), Generator::cpu(7));
        let drawn = |(name, shape): (String, Vec<i64>)| (name, generator.randn(&shape) * 0.1);
        let parameters = description.parameter_shapes().into_iter().map(drawn).collect();
        Self { description, parameters }
    }
}

fn velocity(parameters: &[(String, Tensor)], latents: &Tensor, levels: &Levels) -> Tensor {
    let conv = |x: &Tensor, i: usize| x.conv2d(&parameters[i].1, None::<&Tensor>, [1], [1], [1], 1);
    let level = levels.tensor().to_kind(latents.kind()).view([-1, 1, 1, 1]);
    conv(&conv(&(latents + level), 0).silu(), 1)
}

impl AdapterHost for Convolutions {
    fn adapters_mut(&mut self, _: &mut dyn FnMut(&mut Adapters)) {}

    fn new_adapter_set(&mut self) -> AdapterSet {
        AdapterSet(0)
    }

    fn device(&self) -> Device {
        Device::Cpu
    }
}

impl Network for Convolutions {
    fn predict(
        &self,
        latents: &Tensor,
        levels: &Levels,
        _: &Conditioning,
        _: Option<AdapterSet>,
    ) -> pipelines::Result<Tensor> {
        Ok(velocity(&self.parameters, latents, levels))
    }

    fn named_parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    fn architecture(&self) -> &dyn Architecture {
        &self.description
    }

    fn set_recompute(&mut self, _: Recompute) {}

    fn save(&self, _: &Path, _: Kind, _: Option<&[(String, Tensor)]>) -> pipelines::Result<()> {
        Ok(())
    }
}

fn denoiser() -> Denoiser {
    Denoiser { network: Box::new(Convolutions::new()), process: Box::new(Flow) }
}

/// Pairs of one noise and one level each, drawn as for every run.
fn batch(step: u64) -> Batch {
    let draws = Draws { seed: 3, draws_per_pair: 0, range: LevelRange::Unit };
    let item = |i: usize| {
        let id = format!("pair-{i}");
        let level = draws.level(step, &id, &TimestepLaw::all(draws.range)).unwrap();
        let rows = vec![i as i64, (i + ITEMS) as i64];
        BatchItem { id, level, rows, preference: Preference::Pair { tie: false }, ..BatchItem::default() }
    };
    let items: Vec<BatchItem> = (0..ITEMS).map(item).collect();
    let noise: Vec<Tensor> = items.iter().map(|item| draws.noise(step, &item.id, &SHAPE)).collect();
    let levels: Vec<f64> = items.iter().map(|item| item.level).collect();
    Batch {
        latents: Generator::cpu(11).randn(&[&[2 * ITEMS as i64][..], &SHAPE].concat()),
        noise: Tensor::stack(&noise, 0).repeat([2, 1, 1, 1]),
        levels: Levels::new(&levels.repeat(2)),
        conditioning: Conditioning::of_prompt(Tensor::zeros([2 * ITEMS as i64, 1, 1], tch::kind::FLOAT_CPU)),
        items,
    }
}

fn learner() -> Learner {
    let policy = denoiser();
    let trainable = policy.network.named_parameters();
    for (_, tensor) in &trainable {
        let _ = tensor.set_requires_grad(true);
    }
    let machine = Machine { device: Device::Cpu, compute: Kind::Float, master: Kind::Float };
    let policy = Policy { denoiser: policy, adapters: None, lora: None, text_lora: Lora::default(), trainable };
    let networks = Networks { machine, policy, start: Some(Box::new(Frozen(denoiser()))), moved: None };
    let dpo = MethodSettings::new(find("dpo").unwrap(), "beta = 50.0".parse().unwrap(), None).unwrap();
    let optim = OptimConfig {
        lr: 1e-2,
        lr_scale: LrScale::None,
        rule: RuleConfig::Adamw { betas: (0.9, 0.999), eps: 1e-8 },
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        schedule: Schedule::Constant,
        warmup_steps: 0,
    };
    let criterion = Criterion {
        objective: dpo.objective().unwrap(),
        needs: dpo.needs,
        native_errors: false,
        timestep_weight: None,
        safeguard: None,
        own_weights: OwnWeights::By(1.0),
        weighted: false,
        has_beta: true,
    };
    let optimizer = Optimizer::new(&networks.policy.trainable, &optim);
    let history = History { beta: Beta::fixed(50.0), guard: SpikeGuard::default(), statistics: Statistics::default() };
    let limits = Limits { on_spike: OnSpike::Warn, grad_accum: 1, steps: 3, split: false };
    Learner::new(networks, criterion, Latents::Noised, optimizer, None, history, limits)
}

/// Mean squared velocity error of row `row` under the start weights, from the formulas above alone.
fn error_by_hand(batch: &Batch, row: i64) -> f64 {
    let of_row = |tensor: &Tensor| tensor.narrow(0, row, 1);
    let (x0, noise, s) = (of_row(&batch.latents), of_row(&batch.noise), batch.levels.values()[row as usize]);
    let noisy = &x0 * (1.0 - s) + &noise * s;
    let predicted = velocity(&Convolutions::new().parameters, &noisy, &Levels::new(&[s]));
    (predicted - (noise - x0)).square().mean(Kind::Double).double_value(&[])
}

#[test]
fn dpo_trains_a_network_of_two_convolutions_on_a_flow() {
    let mut learner = learner();
    let start: Vec<Tensor> = learner.networks().policy.trainable.iter().map(|(_, t)| t.detach().copy()).collect();
    let mut losses = Vec::new();
    for s in 1..=3 {
        let batches: &MicroBatches = &|| Box::new(std::iter::once(Ok(Some(MicroBatch::Items(batch(s))))));
        let outcome = learner.step(s, 1e-2, batches, &Alone, &Stop::default()).unwrap();
        losses.extend(outcome.records.losses.iter().map(|item| item.loss));
        if s == 1 {
            let first = &outcome.records.compared[0];
            assert!((0.0..1.0).contains(&first.level) && first.level.fract() != 0.0, "a level of the flow");
            let by_hand = error_by_hand(&batch(1), 0);
            assert!((first.theta_w / by_hand - 1.0).abs() < 1e-5, "{} {by_hand}", first.theta_w);
            assert_eq!(first.h(), Some(0.0), "policy and reference are equal before the first update");
        }
    }
    assert_eq!(losses.len(), 3 * ITEMS);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    for ((name, now), start) in learner.networks().policy.trainable.iter().zip(start) {
        assert!(!now.equal(&start), "{name} did not move");
    }
}
