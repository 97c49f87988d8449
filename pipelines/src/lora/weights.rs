//! The LoRA weights of one network: made, attached, merged, copied.

use crate::error::{Error, Result};
use crate::models::{Adapter, AdapterHost, AdapterSet, LayerShapes};
use crate::network;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// The LoRA of one layer: `y += scale * B A x`.
#[derive(Debug)]
pub struct LoraModule {
    /// `[r, in]`, or `[r, in, k, k]` for a layer stored as a convolution; float32
    pub a: Tensor,
    /// `[out, r]`, or `[out, r, 1, 1]`; float32
    pub b: Tensor,
    /// alpha / r
    pub scale: f64,
}

impl LoraModule {
    pub fn rank(&self) -> i64 {
        self.a.size().first().copied().unwrap_or_default()
    }

    pub fn alpha(&self) -> f64 {
        self.scale * self.rank() as f64
    }

    /// `scale * B A` in the shape of a weight, computed in `kind`.
    pub fn product(&self, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let matrix = |t: &Tensor| t.f_to_kind(kind)?.f_flatten(1, -1);
        let (a, b) = (matrix(&self.a)?, matrix(&self.b)?);
        Ok((b.f_matmul(&a)? * self.scale).f_view(shape)?)
    }

    /// A copy of the values, detached.
    fn copy(&self) -> Self {
        Self { a: self.a.detach().copy(), b: self.b.detach().copy(), scale: self.scale }
    }

    /// sum_i s_i B_i A_i as one B A: rows of the A stacked, columns of s_i B_i concatenated.
    pub(super) fn joined(modules: &[Self]) -> Result<Self> {
        if let [one] = modules {
            return Ok(Self { a: one.a.shallow_clone(), b: one.b.shallow_clone(), scale: one.scale });
        }
        let a: Vec<&Tensor> = modules.iter().map(|m| &m.a).collect();
        let b: Vec<Tensor> = modules.iter().map(|m| &m.b * m.scale).collect();
        Ok(Self { a: Tensor::f_cat(&a, 0)?, b: Tensor::f_cat(&b, 1)?, scale: 1.0 })
    }
}

/// The LoRA of a whole network, float32 masters.
#[derive(Debug, Default)]
pub struct LoraWeights {
    /// By module path, for example `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub modules: BTreeMap<String, LoraModule>,
}

impl LoraWeights {
    /// New adapters on every layer of a network whose path is a target or ends in `.target`, as PEFT matches them.
    ///
    /// `draw("unet.<module path>", shape of A)` gives the first matrix; the second is zero, so that the network's
    /// output is unchanged at the start. A target that matches no layer is an error.
    pub fn init(
        network: &dyn network::Network,
        rank: i64,
        alpha: f64,
        targets: &[String],
        draw: &dyn Fn(&str, &[i64]) -> Tensor,
    ) -> Result<Self> {
        if rank < 1 {
            return Err(Error::Invalid(format!("the rank of a LoRA is {rank}, expected at least 1")));
        }
        let layers = network.architecture().layer_shapes();
        for target in targets {
            if !layers.keys().any(|path| matches(path, target)) {
                return Err(no_such_target(&layers, target));
            }
        }
        let targeted = |path: &str| targets.iter().any(|target| matches(path, target));
        let device = network.device();
        let mut modules = BTreeMap::new();
        for (path, shape) in layers.iter().filter(|(path, _)| targeted(path)) {
            let (a_shape, b_shape) = adapter_shapes(shape, rank);
            let a = draw(&format!("unet.{path}"), &a_shape);
            if a.size() != a_shape {
                let (expected, found) = (format!("{a_shape:?}"), format!("{:?}", a.size()));
                return Err(Error::Shape { what: "the draw of a LoRA matrix", expected, found });
            }
            let a = a.f_to_device(device)?.f_to_kind(Kind::Float)?;
            let b = Tensor::f_zeros(&b_shape, (Kind::Float, device))?;
            modules.insert(path.clone(), LoraModule { a, b, scale: alpha / rank as f64 });
        }
        Ok(Self { modules })
    }

    /// Attaches the adapters to a network as a new set. The set shares these tensors: in-place changes by an
    /// optimizer affect the network. They are moved to the network's device if necessary.
    ///
    /// # Errors
    /// A module that is no layer of the network, or does not fit it.
    pub fn attach(&self, network: &mut dyn AdapterHost) -> Result<AdapterSet> {
        let (set, device) = (network.new_adapter_set(), network.device());
        let mut left: BTreeMap<&str, &LoraModule> = self.modules.iter().map(|(path, m)| (path.as_str(), m)).collect();
        let mut failure = None;
        network.adapters_mut(&mut |layer| {
            let Some(module) = left.remove(layer.path()) else { return };
            match module.adapter(layer.path(), layer.weight_shape(), device) {
                Ok(adapter) => layer.attach(set, adapter),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        });
        match (failure, left.keys().next()) {
            (Some(error), _) => Err(error),
            (None, Some(path)) => Err(Error::Invalid(no_such_layer(path))),
            (None, None) => Ok(set),
        }
    }

    /// All matrices by their names in a PEFT file, `unet.<module path>.lora_A.weight` and `.lora_B.weight`, sorted.
    /// The tensors are shallow clones: `requires_grad` set on them holds for the attached network too.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::with_capacity(2 * self.modules.len());
        for (path, module) in &self.modules {
            tensors.push((format!("unet.{path}.lora_A.weight"), module.a.shallow_clone()));
            tensors.push((format!("unet.{path}.lora_B.weight"), module.b.shallow_clone()));
        }
        tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
        tensors
    }

    /// A copy of the values, detached.
    pub fn copy(&self) -> Self {
        Self { modules: self.modules.iter().map(|(path, module)| (path.clone(), module.copy())).collect() }
    }
}

impl LoraModule {
    fn adapter(&self, path: &str, shape: &[i64], device: tch::Device) -> Result<Adapter> {
        check_shapes(path, &self.a.size(), &self.b.size(), shape).map_err(Error::Invalid)?;
        let (a, b) = (self.a.f_to_device(device)?, self.b.f_to_device(device)?);
        Ok(Adapter { a, b, scale: self.scale })
    }
}

/// PEFT's rule for a list of target modules.
pub(super) fn matches(path: &str, target: &str) -> bool {
    path == target || path.strip_suffix(target).is_some_and(|before| before.ends_with('.'))
}

fn no_such_target(layers: &LayerShapes, target: &str) -> Error {
    let last = |path: &String| {
        let mut parts: Vec<&str> = path.rsplit('.').take(2).collect();
        parts.reverse();
        match parts.last().is_some_and(|part| part.parse::<u32>().is_ok()) {
            true => parts.join("."),
            false => parts.last().map(|part| (*part).to_string()).unwrap_or_default(),
        }
    };
    let known: BTreeSet<String> = layers.keys().map(last).collect();
    let known: Vec<String> = known.into_iter().collect();
    Error::Invalid(format!(
        "the LoRA target {target:?} matches no layer of the UNet; there are: {} (or a whole module path)",
        known.join(", ")
    ))
}

/// The shapes of A and B for a weight of `shape`.
pub(super) fn adapter_shapes(shape: &[i64], rank: i64) -> (Vec<i64>, Vec<i64>) {
    match *shape {
        [output, input, height, width] => (vec![rank, input, height, width], vec![output, rank, 1, 1]),
        [output, input] => (vec![rank, input], vec![output, rank]),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Describes the mismatch between two matrices and a layer.
pub(super) fn check_shapes(path: &str, a: &[i64], b: &[i64], weight: &[i64]) -> std::result::Result<(), String> {
    let rank = a.first().copied().unwrap_or_default();
    if rank > 0 && adapter_shapes(weight, rank) == (a.to_vec(), b.to_vec()) {
        return Ok(());
    }
    Err(format!(
        "the LoRA belongs to another architecture: {path} has the weight {weight:?} in this model, but A {a:?} and \
         B {b:?} in the LoRA"
    ))
}

pub(super) fn no_such_layer(path: &str) -> String {
    format!("the LoRA has the module {path}, which is no layer of this model")
}
