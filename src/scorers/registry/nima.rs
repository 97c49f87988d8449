//! NIMA: mean and spread of the votes that people would give a picture (arXiv 1709.05424).

use crate::scorers::measure::{Better, Measure, Scope, Table};
use crate::scorers::pixels::pillow_nearest;
use crate::scorers::scorer::{Declaration, Files, Opening, Scorer};
use anyhow::Result;
use image::RgbImage;
use pipelines::models::MobileNet;
use pipelines::weights::{Loader, WeightStore};
use tch::{Device, Kind, Tensor};

/// Side of the network's input in pixels.
const SIDE: u32 = 224;
/// Votes are 1 to 10.
const VOTES: i64 = 10;
const WEIGHTS: &str = "model.safetensors";

/// Mean and spread of a histogram of ten votes. Uniform noise gets 4.91, a good 64 px drawing 3.6: a reward of this
/// scorer alone is hacked.
pub const NIMA: Declaration = Declaration {
    name: "nima",
    about: "Aesthetic score learnt from photographers' votes (AVA); noise scores high, so watch another scorer",
    measures: MEASURES,
    files: Some(Files { form: "folder with model.safetensors", weights: Some(WEIGHTS), others: |_| Ok(Vec::new()) }),
    reads_vae: false,
    example: "assets/scorers/nima",
    licence: "Apache-2.0, Copyright 2018 idealo internet GmbH (assets/NOTICE)",
    citation: "Talebi and Milanfar 2017, arXiv 1709.05424; weights of idealo/image-quality-assessment",
    open: |opening| Ok(Box::new(Nima::open(opening)?)),
};

const MEASURES: &[Measure] = &[
    Measure::real("mean", "votes", Some(1.0), Some(10.0), Scope::Picture),
    Measure::number("spread", "votes", (Some(0.0), Some(4.5)), Better::Neither, Scope::Picture),
];

struct Nima {
    network: MobileNet,
    device: Device,
}

impl Nima {
    /// float32 whatever the options say: half precision changes scores by up to 0.04.
    fn open(opening: &Opening) -> Result<Self> {
        let mut options = opening.options;
        options.kind = Kind::Float;
        let loader = Loader::new(WeightStore::from_file(&opening.path.join(WEIGHTS))?, &options);
        let network = MobileNet::load(&loader, VOTES);
        loader.finish()?;
        Ok(Self { network, device: options.device })
    }

    /// Mean and spread of the votes.
    fn votes(&self, picture: &RgbImage) -> Result<Vec<f64>> {
        let _frozen = tch::no_grad_guard();
        let pixels = pillow_nearest(picture, SIDE)?.to_device(self.device); // [1, 3, 224, 224]
        let shares = self.network.forward(&pixels)?.softmax(-1, Kind::Double).to_device(Device::Cpu).squeeze_dim(0);
        let votes = Tensor::arange_start(1, VOTES + 1, (Kind::Double, Device::Cpu));
        let mean = (&shares * &votes).sum(Kind::Double);
        let spread = (shares * (votes - &mean).square()).sum(Kind::Double).sqrt();
        Ok(vec![mean.double_value(&[]), spread.double_value(&[])])
    }
}

impl Scorer for Nima {
    fn measures(&self) -> &[Measure] {
        MEASURES
    }

    /// Each picture is passed alone: in a batch the last bits of its numbers may differ.
    fn score(&self, pictures: &[RgbImage], _: i64, _: &[&str]) -> Result<Table> {
        pictures.iter().map(|picture| self.votes(picture)).collect::<Result<_>>().map(Table)
    }
}
