//! Weight algebra (methods.md 16): a model plus weighted differences of models and LoRAs, tensor by tensor in float64.

use super::model_weights::ModelWeights;
use crate::error::{Error, Result};
use crate::lora::{Lora, LoraModule, LoraWeights, Network, Reduced, Truncation, check_rank};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// A change of a model's weights while they are written.
pub trait Change {
    /// The weight `name` of a network, changed or not; of any floating point kind.
    fn changed(&self, network: Network, name: &str, weight: Tensor) -> Result<Tensor>;
}

impl Change for Lora {
    fn changed(&self, network: Network, name: &str, weight: Tensor) -> Result<Tensor> {
        self.merged(network, name, weight)
    }
}

/// `weight (to - from)`.
#[derive(Clone, Copy)]
pub struct Difference<'a> {
    pub to: &'a ModelWeights,
    /// None: the frame of the sum.
    pub from: Option<&'a ModelWeights>,
    pub weight: f64,
}

impl Difference<'_> {
    /// Whether both sides have the network. Without text encoders a UNet alone counts as equal to the base in them.
    fn has(&self, network: Network) -> bool {
        self.to.has(network) && self.from.is_none_or(|from| from.has(network))
    }
}

/// Layers of a difference's LoRA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// Every matrix and convolution.
    All,
    /// Layers inside the UNet's attentions, and in the text encoders, as in kohya's plain LoRAs.
    Attention,
}

/// `frame + sum_i weight_i (to_i - from_i) + LoRA`.
pub struct Combination<'a> {
    frame: &'a ModelWeights,
    differences: Vec<Difference<'a>>,
    lora: Lora,
}

/// A difference as a LoRA, and the rest that no LoRA holds.
#[derive(Debug)]
pub struct Extracted {
    pub reduced: Reduced,
    /// Differing tensors without a place in the LoRA: biases, norms, embeddings, layers outside the selection.
    pub left_out: Vec<String>,
    /// Their Frobenius norm as a share of the whole difference's, in `[0, 1]`.
    pub left_out_share: f64,
}

impl<'a> Combination<'a> {
    /// Checks that all models have one architecture. Differences of weight 0 are dropped.
    pub fn new(frame: &'a ModelWeights, differences: Vec<Difference<'a>>, lora: Lora) -> Result<Self> {
        for model in differences.iter().flat_map(|d| std::iter::once(d.to).chain(d.from)) {
            model.check_fits(frame)?;
        }
        let differences = differences.into_iter().filter(|d| d.weight != 0.0).collect();
        Ok(Self { frame, differences, lora })
    }

    /// The sum of changes of one weight, float64; None without any.
    fn added(&self, network: Network, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let mut sum = self.product(network, name, shape)?;
        for difference in self.differences.iter().filter(|d| d.has(network)) {
            let from = difference.from.unwrap_or(self.frame).finite_tensor(network, name)?;
            let vector = difference.to.finite_tensor(network, name)?.f_sub_(&from)?.f_mul_scalar_(difference.weight)?;
            match sum.as_mut() {
                Some(sum) => drop(sum.f_add_(&vector)?),
                None => sum = Some(vector),
            }
        }
        Ok(sum)
    }

    fn product(&self, network: Network, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let module = name.strip_suffix(".weight").and_then(|path| self.lora.network(network)?.modules.get(path));
        module.map(|module| module.product(shape, Kind::Double)).transpose()
    }

    /// The networks on which the LoRA acts.
    pub fn lora_networks(&self) -> impl Iterator<Item = Network> {
        self.lora.networks().map(|(network, _)| network)
    }

    /// Number of calls of `on_module` by [`Combination::to_lora`].
    pub fn steps(&self) -> usize {
        match self.differences.is_empty() {
            true => self.lora.networks().map(|(_, weights)| weights.modules.len()).sum(),
            false => self.frame.networks().map(|network| self.frame.shapes(network).len()).sum(),
        }
    }

    /// The combination's difference as a LoRA. Sums of LoRAs alone without a `rank` are exact, with concatenated
    /// ranks. Otherwise each module gets the nearest product of at most `rank`. `on_module` is called before every
    /// module and may stop the work.
    ///
    /// # Errors
    /// Differing whole weights without a rank; a rank above that of every layer.
    pub fn to_lora(
        &self,
        rank: Option<i64>,
        layers: Layers,
        on_module: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<Extracted> {
        if self.differences.is_empty() {
            let reduced = self.lora.reduced(rank, on_module)?;
            return Ok(Extracted { reduced, left_out: Vec::new(), left_out_share: 0.0 });
        }
        let Some(rank) = rank else {
            return Err(Error::Invalid("a difference of whole weights has no rank of its own; give one".into()));
        };
        let mut found = Found::default();
        check_rank(rank, self.layers(layers).map(|(network, path, shape)| (full_name(network, path), shape.to_vec())))?;
        for network in self.frame.networks() {
            let own = self.layers(layers).filter(|(of, ..)| *of == network);
            let paths: BTreeSet<&str> = own.map(|(_, path, _)| path).collect();
            for (name, shape) in self.frame.shapes(network) {
                on_module(&full_name(network, name))?;
                let Some(added) = self.added(network, name, shape)? else { continue };
                let path = name.strip_suffix(".weight").filter(|path| paths.contains(path));
                found.take(network, name, path, &added, rank)?;
            }
        }
        Ok(found.finish())
    }

    /// The frame's layers available to a LoRA: network, module path, the weight's shape.
    fn layers(&self, layers: Layers) -> impl Iterator<Item = (Network, &str, &[i64])> {
        let targets = self.frame.lora_targets();
        let chosen = move |network: Network, path: &str| {
            let inside = layers == Layers::All || network != Network::Unet || path.contains(".attentions.");
            inside && targets.weight_shape(network, path).is_some()
        };
        let of_network = |network| self.frame.shapes(network).iter().map(move |(name, shape)| (network, name, shape));
        self.frame.networks().flat_map(of_network).filter_map(move |(network, name, shape)| {
            let path = name.strip_suffix(".weight").filter(|path| chosen(network, path))?;
            Some((network, path, shape.as_slice()))
        })
    }
}

impl Change for Combination<'_> {
    /// Written as a sum of weights, not of differences: with the whole weight on one model the result equals that
    /// model to the bit.
    fn changed(&self, network: Network, name: &str, weight: Tensor) -> Result<Tensor> {
        let shape = weight.size();
        let weight = self.frame.finite(network, name, weight)?;
        let mut own = 1.0;
        let mut sum = self.product(network, name, &shape)?;
        // In place: the tensors belong to this call, and the largest of SDXL take 100 MB each.
        let mut add = |mut part: Tensor, factor: f64| -> Result<()> {
            let part = part.f_mul_scalar_(factor)?;
            match sum.as_mut() {
                Some(sum) => drop(sum.f_add_(&part)?),
                None => sum = Some(part),
            }
            Ok(())
        };
        for difference in self.differences.iter().filter(|d| d.has(network)) {
            add(difference.to.finite_tensor(network, name)?, difference.weight)?;
            match difference.from {
                Some(from) => add(from.finite_tensor(network, name)?, -difference.weight)?,
                None => own -= difference.weight,
            }
        }
        if own != 0.0 {
            add(weight, own)?;
        }
        sum.ok_or_else(|| Error::Invalid(format!("{name}: no weights are left to add")))
    }
}

fn full_name(network: Network, path: &str) -> String {
    format!("{}.{path}", network.name())
}

/// Progress of an extraction.
#[derive(Default)]
struct Found {
    networks: BTreeMap<Network, LoraWeights>,
    modules: Vec<(String, Truncation)>,
    left_out: Vec<String>,
    /// Squares of Frobenius norms.
    outside: f64,
    whole: f64,
}

impl Found {
    /// Adds the difference of one weight; `path` is its module if the LoRA has a place for it.
    fn take(&mut self, network: Network, name: &str, path: Option<&str>, added: &Tensor, rank: i64) -> Result<()> {
        let square = added.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
        if square == 0.0 {
            return Ok(());
        }
        self.whole += square;
        let Some(path) = path else {
            self.outside += square;
            self.left_out.push(full_name(network, name));
            return Ok(());
        };
        let (module, truncation) = LoraModule::of_difference(added, rank)?;
        self.modules.push((full_name(network, path), truncation));
        self.networks.entry(network).or_default().modules.insert(path.to_string(), module);
        Ok(())
    }

    fn finish(self) -> Extracted {
        let left_out_share = if self.whole > 0.0 { (self.outside / self.whole).sqrt() } else { 0.0 };
        let reduced = Reduced { lora: Lora::of_networks(self.networks), modules: self.modules };
        Extracted { reduced, left_out: self.left_out, left_out_share }
    }
}
