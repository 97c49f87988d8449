//! Models written in another format: a folder of the diffusers layout, a UNet folder, or a single-file checkpoint,
//! with changed weights. Tensors are converted one at a time.

use super::combination::Change;
use super::declaration::{DIFFUSERS, Variant};
use super::folder::ModelFolder;
use super::layout::{Place, Shapes, places};
use super::model_weights::ModelWeights;
use super::single_file::HEADER;
use super::standard::tokenizer;
use crate::error::{Error, Result};
use crate::lora::Network;
use crate::models::{AutoencoderKl, ClipTextModel, VaeConfig};
use crate::network::Architecture;
use crate::schedulers::PredictionType;
use crate::weights::original::Form;
use crate::weights::{Entry, ParameterShapes, WeightStore, check_store, is_finite, write_file, write_streaming};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A model to be written.
pub struct Export<'a> {
    folder: &'a ModelFolder,
    change: &'a dyn Change,
    notes: Vec<(String, String)>,
    kind: Kind,
    network: Arc<dyn Architecture>,
    vae: VaeConfig,
    parts: BTreeMap<&'static str, (WeightStore, ParameterShapes)>,
}

/// Header texts of a checkpoint besides its architecture.
#[derive(Debug, Clone)]
pub struct Labels {
    pub title: String,
    /// ISO 8601, for example `2026-01-31T12:00:00Z`
    pub date: String,
}

impl<'a> Export<'a> {
    /// Opens the weights of a model and checks them against its descriptions. `unet` and `vae` replace the model's
    /// own. `change` applies to the UNet and the text encoders, for example a LoRA. `kind` None keeps the stored kind
    /// of the UNet.
    pub fn open(
        folder: &'a ModelFolder,
        unet: Option<&Path>,
        vae: Option<&Path>,
        change: &'a dyn Change,
        kind: Option<Kind>,
    ) -> Result<Self> {
        let (network, network_store) = folder.network_parts(unet)?;
        let component = folder.declaration().network.component;
        let (vae, mut vae_store) = folder.vae_parts(vae)?;
        AutoencoderKl::rename(&mut vae_store);
        let first = network_store.names().next().and_then(|name| network_store.kind(name));
        let kind = kind.or(first).unwrap_or(Kind::Float);
        let mut parts = BTreeMap::from([
            (component, (network_store, network.parameter_shapes())),
            ("vae", (vae_store, AutoencoderKl::parameter_shapes(&vae))),
        ]);
        for (name, mut store, config) in folder.text_parts()? {
            ClipTextModel::rename(&mut store);
            parts.insert(name, (store, ClipTextModel::parameter_shapes(config)));
        }
        for (store, shapes) in parts.values() {
            check_store(store, shapes)?;
        }
        Ok(Self { folder, change, notes: Vec::new(), kind, network, vae, parts })
    }

    /// A text for the header of every file with changed weights.
    #[must_use]
    pub fn with_note(mut self, key: &str, text: &str) -> Self {
        self.notes.push((key.to_string(), text.to_string()));
        self
    }

    /// Writes a folder for diffusers; `to` must not exist. It appears once it is whole.
    pub fn write_folder(&self, to: &Path, on_file: &mut dyn FnMut(&Path)) -> Result<()> {
        let temporary = temporary_beside(to)?;
        let dir = temporary.path();
        for (part, _) in self.folder.declaration().parts() {
            self.folder.model_files().write_texts(part, &dir.join(part))?;
        }
        self.network.file().write(&dir.join(self.folder.declaration().network.component))?;
        self.vae.file().write(&dir.join("vae"))?;
        self.folder.scheduler().write(&dir.join("scheduler"))?;
        for (part, stem) in self.folder.declaration().weights() {
            let path = dir.join(part).join(format!("{stem}.safetensors"));
            on_file(&to.join(part).join(format!("{stem}.safetensors")));
            let (_, shapes) = &self.parts[part];
            let entry = |(name, shape): &(String, Vec<i64>)| Entry {
                name: name.clone(),
                kind: self.kind,
                shape: shape.clone(),
            };
            let entries = shapes.iter().map(entry).collect();
            // The VAE is no part of a merge.
            let notes = if network(part).is_some() { self.notes.as_slice() } else { &[] };
            write_streaming(&path, entries, &header(&[("format", "pt")], notes), &mut |name| self.tensor(part, name))?;
        }
        let index = format!("{:#}\n", self.folder.index());
        write_file(&dir.join("model_index.json"), |out| out.write_all(index.as_bytes()))?;
        publish(temporary, to)
    }

    /// Writes a single-file checkpoint, and for an SD2 with velocity prediction the YAML for A1111.
    pub fn write_checkpoint(&self, to: &Path, labels: &Labels) -> Result<()> {
        let family = self.folder.family();
        let shapes = Shapes { network: &*self.network, vae: &self.vae, text: self.folder.text() };
        let places = places(family.declaration, shapes, &|part| {
            part.prefixes.first().map(|p| (*p).to_string()).unwrap_or_default()
        })?;
        let mut tensors: BTreeMap<String, Stored> = BTreeMap::new();
        for place in &places {
            tensors.entry(place.stored.clone()).or_insert_with(|| Stored::Of(Vec::new())).add(place);
        }
        self.add_expected(family.variant, &mut tensors)?;
        let entries = tensors.iter().map(|(name, stored)| Entry {
            name: name.clone(),
            kind: stored.kind(self.kind),
            shape: stored.shape(),
        });
        let model = self.header()?;
        let resolution = self.network.native_side() * self.vae.factor();
        let resolution = format!("{resolution}x{resolution}");
        let prediction = self.prediction_name();
        let metadata = [
            ("format", "pt"),
            ("modelspec.sai_model_spec", "1.0.1"),
            ("modelspec.architecture", family.variant.architecture),
            ("modelspec.implementation", "https://github.com/Stability-AI/generative-models"),
            ("modelspec.title", labels.title.as_str()),
            ("modelspec.date", labels.date.as_str()),
            ("modelspec.resolution", resolution.as_str()),
            ("modelspec.prediction_type", prediction),
            ("modelspec.predict_key", prediction),
            (HEADER, model.as_str()),
        ];
        let entries = entries.collect();
        let metadata = header(&metadata, &self.notes);
        write_streaming(to, entries, &metadata, &mut |name| match &tensors[name] {
            Stored::Of(places) => self.stored(places),
            Stored::Given(tensor) => Ok(tensor.shallow_clone()),
        })?;
        if let Some(yaml) = family.variant.yaml {
            write_file(&to.with_extension("yaml"), |out| out.write_all(yaml.as_bytes()))?;
        }
        Ok(())
    }

    fn prediction_name(&self) -> &'static str {
        match self.folder.scheduler().prediction_type {
            PredictionType::Epsilon => "epsilon",
            PredictionType::VPrediction => "v",
        }
    }

    /// One tensor of a component in its written form.
    fn tensor(&self, part: &str, name: &str) -> Result<Tensor> {
        let (store, shapes) = &self.parts[part];
        let shape =
            shapes.iter().find(|(known, _)| known == name).map(|(_, shape)| shape.as_slice()).unwrap_or_default();
        let weight = store.tensor(name)?.f_view(shape)?;
        let changed = match network(part) {
            Some(network) => self.change.changed(network, name, weight)?,
            None => weight,
        };
        rounded(&changed, self.kind, store.path(), part, name)
    }

    /// One tensor of a checkpoint from the model's tensors.
    fn stored(&self, places: &[Place]) -> Result<Tensor> {
        let parts = places.iter().map(|place| place.form.stored_of(self.tensor(place.component, &place.name)?));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        match &parts[..] {
            [one] => Ok(one.shallow_clone()),
            many => Ok(Tensor::f_cat(many, 0)?),
        }
    }

    /// Tensors that other programs expect besides the model: markers of the prediction type, and unused tensors of
    /// files.
    fn add_expected(&self, variant: &Variant, tensors: &mut BTreeMap<String, Stored>) -> Result<()> {
        let marker = || Tensor::zeros([0], (Kind::Float, tch::Device::Cpu));
        if let Some([prediction, zero_snr]) = variant.markers {
            tensors.insert(prediction.into(), Stored::Given(marker()));
            if self.folder.scheduler().rescale_betas_zero_snr {
                tensors.insert(zero_snr.into(), Stored::Given(marker()));
            }
        }
        let declaration = self.folder.declaration();
        let (Some(part), Some(text)) = (declaration.text.first(), self.folder.text().first()) else { return Ok(()) };
        if !declaration.single_file.has_unused_text {
            return Ok(());
        }
        let prefix = part.prefixes.first().copied().unwrap_or_default();
        let last = format!("{prefix}transformer.resblocks.{}.", text.layers - 1);
        let unused = format!("{prefix}transformer.resblocks.{}.", text.layers);
        let block: Vec<_> = tensors
            .iter()
            .filter_map(|(name, stored)| {
                Some((format!("{unused}{}", name.strip_prefix(&last)?), stored.places()?.to_vec()))
            })
            .collect();
        tensors.extend(block.into_iter().map(|(name, places)| (name, Stored::Of(places))));
        let kind = (self.kind, tch::Device::Cpu);
        let projection = Tensor::f_eye_m(text.hidden_size, text.hidden_size, kind)?;
        tensors.insert(format!("{prefix}text_projection"), Stored::Given(projection));
        let scale = Tensor::from(100.0_f64.ln()).f_to_kind(self.kind)?;
        tensors.insert(format!("{prefix}logit_scale"), Stored::Given(scale));
        Ok(())
    }

    /// The descriptions of the model in the form of [`HEADER`]; CLIP's vocabulary is left out if it is the usual one.
    fn header(&self) -> Result<String> {
        let usual: BTreeMap<&str, String> = tokenizer("").into_iter().collect();
        let mut files = Map::new();
        let declaration = self.folder.declaration();
        for (part, _) in declaration.parts() {
            for (name, text) in self.folder.model_files().texts_of(part)? {
                if !is_usual(&usual, &name, &text) {
                    files.insert(format!("{part}/{name}"), json!(text));
                }
            }
        }
        let network = format!("{}/config.json", declaration.network.component);
        let own = [
            ("model_index.json", self.folder.index()),
            ("scheduler/scheduler_config.json", self.folder.scheduler().to_json()),
            (network.as_str(), self.network.file().to_json()),
            ("vae/config.json", self.vae.file().to_json()),
        ];
        files.extend(own.into_iter().map(|(name, value)| (name.to_string(), json!(value.to_string()))));
        Ok(json!({"layout": declaration.key, "files": files}).to_string())
    }
}

/// Whether a tokenizer's file equals CLIP's own.
fn is_usual(usual: &BTreeMap<&str, String>, name: &str, text: &str) -> bool {
    match (name, usual.get(name)) {
        ("merges.txt", Some(own)) => {
            let lines = |text: &'_ str| {
                text.lines().filter(|l| !l.starts_with("#version")).map(String::from).collect::<Vec<_>>()
            };
            lines(own) == lines(text)
        }
        ("vocab.json", Some(own)) => {
            let parse = |text: &str| serde_json::from_str::<BTreeMap<String, u32>>(text).ok();
            parse(text).is_some_and(|vocabulary| Some(vocabulary) == parse(own))
        }
        _ => false,
    }
}

/// A tensor of a checkpoint.
enum Stored {
    /// Made of one tensor of the model, or of the three parts of a fused tensor, in order.
    Of(Vec<Place>),
    Given(Tensor),
}

impl Stored {
    fn add(&mut self, place: &Place) {
        if let Self::Of(places) = self {
            places.push(place.clone());
            places.sort_by_key(|place| if let Form::Third(third) = place.form { third } else { 0 });
        }
    }

    fn places(&self) -> Option<&[Place]> {
        if let Self::Of(places) = self { Some(places) } else { None }
    }

    fn kind(&self, kind: Kind) -> Kind {
        if let Self::Given(tensor) = self { tensor.kind() } else { kind }
    }

    fn shape(&self) -> Vec<i64> {
        match self {
            Self::Of(places) => places.first().map(|place| place.form.stored_shape(&place.shape)).unwrap_or_default(),
            Self::Given(tensor) => tensor.size(),
        }
    }
}

fn network(part: &str) -> Option<Network> {
    [Network::Unet, Network::TextEncoder, Network::TextEncoder2].into_iter().find(|network| network.name() == part)
}

/// A weight in its written kind.
fn rounded(weight: &Tensor, kind: Kind, path: &Path, part: &str, name: &str) -> Result<Tensor> {
    let written = weight.f_to_kind(kind)?;
    if is_finite(&written)? {
        return Ok(written);
    }
    let hint = match is_finite(weight)? {
        true => format!("a value is too large for {kind:?}: write bfloat16 or float32"),
        false => "it is not finite: the weights, or a LoRA that is merged, are damaged".to_string(),
    };
    Err(Error::unusable(path, format!("{part} {name}"), hint))
}

fn header<'a>(texts: &[(&'a str, &'a str)], notes: &'a [(String, String)]) -> Vec<(&'a str, &'a str)> {
    texts.iter().copied().chain(notes.iter().map(|(key, text)| (key.as_str(), text.as_str()))).collect()
}

/// Writes the changed UNet of a model as a UNet folder; `to` must not exist. It appears once it is whole. `kind` None
/// keeps the stored kind; `notes` become part of the header.
pub fn write_unet(
    weights: &ModelWeights,
    change: &dyn Change,
    kind: Option<Kind>,
    notes: &[(&str, &str)],
    to: &Path,
) -> Result<()> {
    let kind = kind.unwrap_or(weights.kind());
    let temporary = temporary_beside(to)?;
    weights.architecture().file().write(temporary.path())?;
    let shapes = weights.shapes(Network::Unet).iter();
    let entries = shapes.map(|(name, shape)| Entry { name: name.clone(), kind, shape: shape.clone() }).collect();
    let file = temporary.path().join(format!("{DIFFUSERS}.safetensors"));
    let metadata = [&[("format", "pt")], notes].concat();
    write_streaming(&file, entries, &metadata, &mut |name| {
        let changed = change.changed(Network::Unet, name, weights.tensor(Network::Unet, name)?)?;
        rounded(&changed, kind, weights.path(), "unet", name)
    })?;
    publish(temporary, to)
}

fn temporary_beside(to: &Path) -> Result<tempfile::TempDir> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io("create the folder", parent, e))?;
    let temporary = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent);
    temporary.map_err(|e| Error::io("write into", parent, e))
}

/// Renames a finished temporary folder into place.
fn publish(temporary: tempfile::TempDir, to: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(temporary.path(), mode).map_err(|e| Error::io("write", temporary.path(), e))?;
    }
    std::fs::rename(temporary.path(), to).map_err(|e| Error::io("rename the finished folder to", to, e))?;
    // Already renamed: nothing remains to be removed.
    drop(temporary.keep());
    Ok(())
}
