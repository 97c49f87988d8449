//! LoRA weights of a UNet (arXiv 2106.09685): made, attached, copied. Files: `lora/read.rs` and `lora/write.rs`.

mod read;
mod write;

use crate::error::{Error, Result};
use crate::models::{Adapter, AdapterSet, UNet2DConditionModel};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// The LoRA of one linear layer: `y += scale * B A x`.
#[derive(Debug)]
pub struct LoraModule {
    /// `[r, in]`, or `[r, in, 1, 1]` where the layer is stored as a 1x1 convolution; float32
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
}

/// The LoRA of a whole network, float32 masters.
#[derive(Debug, Default)]
pub struct LoraWeights {
    /// By module path, for example `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
    pub modules: BTreeMap<String, LoraModule>,
}

impl LoraWeights {
    /// New adapters on every linear layer whose path is a target or ends in `.target`, as PEFT matches them.
    ///
    /// `draw("unet.<module path>", shape of A)` gives the first matrix; the second is zero, so that the network starts
    /// as it was. A target that matches no layer is an error.
    pub fn init(
        unet: &UNet2DConditionModel,
        rank: i64,
        alpha: f64,
        targets: &[String],
        draw: &dyn Fn(&str, &[i64]) -> Tensor,
    ) -> Result<Self> {
        if rank < 1 {
            return Err(Error::Invalid(format!("the rank of a LoRA is {rank}, expected at least 1")));
        }
        for target in targets {
            if !unet.linear_shapes().keys().any(|path| matches(path, target)) {
                return Err(no_such_target(unet, target));
            }
        }
        let targeted = |path: &str| targets.iter().any(|target| matches(path, target));
        let device = unet.device();
        let mut modules = BTreeMap::new();
        for (path, shape) in unet.linear_shapes().iter().filter(|(path, _)| targeted(path)) {
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

    /// Hangs the adapters into the network as a new set. The set shares these tensors: what an optimizer does to them in
    /// place, the network sees.
    pub fn attach(&self, unet: &mut UNet2DConditionModel) -> Result<AdapterSet> {
        for (path, module) in &self.modules {
            check_shapes(path, &module.a.size(), &module.b.size(), unet.linear_shapes().get(path))
                .map_err(Error::Invalid)?;
        }
        let set = unet.new_adapter_set();
        unet.linears_mut(&mut |linear| {
            if let Some(module) = self.modules.get(linear.path()) {
                let (a, b) = (module.a.shallow_clone(), module.b.shallow_clone());
                linear.attach(set, Adapter { a, b, scale: module.scale });
            }
        });
        Ok(set)
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

    /// The same values in tensors of their own that no gradient follows.
    pub fn copy(&self) -> Self {
        let copy = |t: &Tensor| t.detach().copy();
        let modules = self
            .modules
            .iter()
            .map(|(path, m)| (path.clone(), LoraModule { a: copy(&m.a), b: copy(&m.b), scale: m.scale }));
        Self { modules: modules.collect() }
    }
}

/// PEFT's rule for a list of target modules.
fn matches(path: &str, target: &str) -> bool {
    path == target || path.strip_suffix(target).is_some_and(|before| before.ends_with('.'))
}

fn no_such_target(unet: &UNet2DConditionModel, target: &str) -> Error {
    let last = |path: &String| {
        let mut parts: Vec<&str> = path.rsplit('.').take(2).collect();
        parts.reverse();
        match parts.last().is_some_and(|part| part.parse::<u32>().is_ok()) {
            true => parts.join("."),
            false => parts.last().map(|part| (*part).to_string()).unwrap_or_default(),
        }
    };
    let known: BTreeSet<String> = unet.linear_shapes().keys().map(last).collect();
    let known: Vec<String> = known.into_iter().collect();
    Error::Invalid(format!(
        "the LoRA target {target:?} matches no linear layer of the UNet; there are: {} (or a whole module path)",
        known.join(", ")
    ))
}

/// The shapes of A and B for a weight of `shape`.
fn adapter_shapes(shape: &[i64], rank: i64) -> (Vec<i64>, Vec<i64>) {
    match *shape {
        [output, input, 1, 1] => (vec![rank, input, 1, 1], vec![output, rank, 1, 1]),
        [output, input] => (vec![rank, input], vec![output, rank]),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Says in which way two matrices do not fit a layer.
fn check_shapes(path: &str, a: &[i64], b: &[i64], weight: Option<&Vec<i64>>) -> std::result::Result<(), String> {
    let Some(weight) = weight else {
        return Err(format!("the LoRA has the module {path}, which is no linear layer of this UNet"));
    };
    let rank = a.first().copied().unwrap_or_default();
    if rank > 0 && adapter_shapes(weight, rank) == (a.to_vec(), b.to_vec()) {
        return Ok(());
    }
    Err(format!(
        "the LoRA belongs to another architecture: {path} has the weight {weight:?} in this UNet, but A {a:?} and \
         B {b:?} in the LoRA"
    ))
}
