//! The pictures of one model: painted once, kept as files, judged once.

use super::figures::Settings;
use super::models::NamedModel;
use super::names::Name;
use crate::machine::files::write_atomically;
use crate::machine::hashes::{self, HashMemory};
use crate::painting::{Look, Model, NegativeSide, Picture, write_png};
use crate::progress::{Progress, Stop};
use crate::scorers::{Judge, Opinion};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::families::EmptySide;
use pipelines::lora::Lora;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Pictures judged at once.
const JUDGED_AT_ONCE: usize = 256;

/// A picture of the evaluation: a row of the names and a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub name: usize,
    pub seed: u64,
}

impl Place {
    pub fn file(&self) -> String {
        format!("{:04}-{}.png", self.name, self.seed)
    }
}

/// Every picture that one of the measures needs, once: held-out names have `seeds`, all names `content_seeds`.
pub fn plan(names: &[Name], seeds: u64, content_seeds: u64) -> Vec<Place> {
    let count = |name: &Name| if name.held_out { seeds.max(content_seeds) } else { content_seeds };
    let places = |(index, name): (usize, &Name)| {
        (0..count(name)).map(move |seed| Place { name: index, seed }).collect::<Vec<_>>()
    };
    names.iter().enumerate().flat_map(places).collect()
}

/// How pictures are made, the same for all models.
pub struct Easel<'a> {
    pub look: Look,
    pub settings: &'a Settings,
    pub device: Device,
    pub kind: Kind,
    pub progress: &'a dyn Progress,
    pub stop: &'a Stop,
}

/// The folder of a model's pictures; its name holds a hash of all that the pictures depend on.
pub struct Album {
    pub dir: PathBuf,
    pub key: String,
}

impl Album {
    /// Finds the folder under `pictures`, without painting.
    ///
    /// # Errors
    /// When the model's files cannot be read.
    pub fn of(
        model: &NamedModel,
        easel: &Easel,
        names: &[Name],
        pictures: &Path,
        memory: &mut HashMemory,
    ) -> Result<Self> {
        let request = model.request(easel.device, easel.kind);
        let folder = request.folder(easel.progress)?;
        let weights = request.weight_hashes(&folder, memory)?;
        let loras: Vec<_> = model
            .loras
            .iter()
            .map(|lora| Ok(json!([memory.of_file(&Lora::file_in(&lora.path))?, lora.scale])))
            .collect::<Result<_>>()?;
        let prompts: Vec<&str> = names.iter().map(|name| name.prompt.as_str()).collect();
        let scheduler = hashes::of_bytes(folder.scheduler().to_json().to_string().as_bytes());
        let s = easel.settings;
        let mut made_of = json!({
            "weights": weights, "zeros": folder.empty_side() == EmptySide::Zeros, "loras": loras,
            "clip_skip": model.overrides.clip_skip, "prediction_type": folder.scheduler().prediction_type.name(),
            "zero_terminal_snr": folder.scheduler().rescale_betas_zero_snr, "prompts": prompts, "model_scheduler": scheduler, "scheduler": s.scheduler,
            "steps": s.steps, "guidance_scale": s.guidance_scale, "width": s.width, "height": s.height, "device": s.device,
            "dtype": s.dtype, "program": env!("CARGO_PKG_VERSION"),
        });
        if model.negative.is_some() {
            made_of["negative"] = request.negative_record(&folder, memory)?;
        }
        let key = hashes::of_bytes(made_of.to_string().as_bytes());
        let name: String =
            model.name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let dir = pictures.join(format!("{name}-{}", key.get(..12).unwrap_or(&key)));
        Ok(Self { dir, key })
    }

    /// Paints what is not there yet and writes `index.jsonl`. Returns how many pictures were made.
    ///
    /// # Errors
    /// [`crate::progress::Stopped`] after a signal: what is painted by then is kept.
    pub fn paint(
        &self,
        model: &NamedModel,
        easel: &Easel,
        names: &[Name],
        places: &[Place],
        memory: &mut HashMemory,
    ) -> Result<usize> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let missing: Vec<Place> =
            places.iter().copied().filter(|place| !self.dir.join(place.file()).is_file()).collect();
        if !missing.is_empty() {
            let request = model.request(easel.device, easel.kind);
            let folder = request.folder(easel.progress)?;
            let negative = NegativeSide::of(&request, &folder, memory)?;
            let loaded = Model::load(folder, &request, negative.as_ref())?;
            let prompt = |place: &Place| names.get(place.name).map_or("", |name| name.prompt.as_str());
            let pictures: Vec<Picture> =
                missing.iter().map(|place| Picture { prompt: prompt(place), seed: place.seed }).collect();
            easel.progress.begin("sample", 0, pictures.len() as u64);
            let painted = loaded.painter().paint(
                &pictures,
                &easel.look,
                loaded.adapters,
                easel.progress,
                easel.stop,
                &mut |index, painted| {
                    let place = missing.get(index).context("the painter made a picture that nothing asked for")?;
                    write_png(&self.dir.join(place.file()), &painted.image, &[])
                },
            );
            easel.progress.end();
            painted?;
        }
        self.write_index(names)?;
        Ok(missing.len())
    }

    /// `index.jsonl`: file, prompt, seed of every picture that is there.
    fn write_index(&self, names: &[Name]) -> Result<()> {
        let mut lines = String::new();
        for (index, name) in names.iter().enumerate() {
            for seed in 0.. {
                let place = Place { name: index, seed };
                if !self.dir.join(place.file()).is_file() {
                    break;
                }
                let row = json!({"file": place.file(), "prompt": name.prompt, "seed": seed, "held_out": name.held_out});
                lines.push_str(&format!("{row}\n"));
            }
        }
        write_atomically(&self.dir.join("index.jsonl"), lines.as_bytes())
    }

    /// The picture at a place.
    pub fn picture(&self, place: Place) -> Result<RgbImage> {
        let path = self.dir.join(place.file());
        let image = image::open(&path)
            .with_context(|| format!("{} is no whole picture; remove it, and it is painted again", path.display()))?;
        Ok(image.to_rgb8())
    }

    /// Opinions of a judge on the pictures at `places`, in their order; kept beside the pictures.
    ///
    /// # Errors
    /// When a picture cannot be read.
    pub fn judge(&self, judge: &dyn Judge, places: &[Place], stop: &Stop) -> Result<Vec<Opinion>> {
        let hash = judge.hash();
        let file = self.dir.join(format!("judged-{}-{}.json", judge.key(), hash.get(..12).unwrap_or(&hash)));
        // A damaged file costs only time: its pictures are judged again.
        let mut known: BTreeMap<String, Opinion> =
            std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let missing: Vec<Place> = places.iter().copied().filter(|place| !known.contains_key(&place.file())).collect();
        for batch in missing.chunks(JUDGED_AT_ONCE) {
            stop.check()?;
            let pictures = batch.iter().map(|place| self.picture(*place)).collect::<Result<Vec<_>>>()?;
            known.extend(batch.iter().map(Place::file).zip(judge.judge(&pictures)?));
        }
        if !missing.is_empty() {
            write_atomically(&file, &serde_json::to_vec(&known)?)?;
        }
        let opinion = |place: &Place| known.get(&place.file()).cloned().context("a picture was not judged");
        places.iter().map(opinion).collect()
    }
}
