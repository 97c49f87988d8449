//! The pictures of one model: painted once, kept as files.

use super::groups::Cell;
use super::prompts::Prompt;
use crate::denoising::NamedModel;
use crate::machine::files::write_atomically;
use crate::machine::hashes::{self, HashMemory};
use crate::metrics::evaluation::PictureSettings;
use crate::painting::{Look, Model, NegativeSide, Picture, write_png};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::families::EmptySide;
use pipelines::lora::Lora;
use serde_json::json;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// How pictures are made, the same for all models.
pub struct Easel<'a> {
    pub look: Look,
    pub settings: &'a PictureSettings,
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
        prompts: &[Prompt],
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
        let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        let scheduler = hashes::of_bytes(folder.scheduler().to_json().to_string().as_bytes());
        let s = easel.settings;
        let mut made_of = json!({
            "weights": weights, "zeros": folder.empty_side() == EmptySide::Zeros, "loras": loras,
            "clip_skip": model.overrides.clip_skip, "prediction_type": folder.scheduler().prediction_type.name(),
            "zero_terminal_snr": folder.scheduler().rescale_betas_zero_snr, "prompts": texts, "model_scheduler": scheduler, "scheduler": s.scheduler,
            "steps": s.steps, "guidance_scale": s.guidance_scale, "width": s.width, "height": s.height, "device": s.device,
            "dtype": s.dtype, "program": env!("CARGO_PKG_VERSION"), "seeds": "per prompt",
        });
        if model.negative.is_some() {
            made_of["negative"] = json!(request.negative_record(&folder, memory)?);
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
        prompts: &[Prompt],
        cells: &[Cell],
        memory: &mut HashMemory,
    ) -> Result<usize> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        let missing: Vec<Cell> = cells.iter().copied().filter(|cell| !self.dir.join(cell.file()).is_file()).collect();
        if !missing.is_empty() {
            let request = model.request(easel.device, easel.kind);
            let folder = request.folder(easel.progress)?;
            let negative = NegativeSide::of(&request, &folder, memory)?;
            let loaded = Model::load(folder, &request, negative.as_ref())?;
            let prompt = |cell: &Cell| prompts.get(cell.prompt).map_or("", |prompt| prompt.text.as_str());
            let pictures: Vec<Picture> =
                missing.iter().map(|cell| Picture { prompt: prompt(cell), seed: cell.noise_seed() }).collect();
            easel.progress.begin("sample", 0, pictures.len() as u64);
            let painted = loaded.painter().paint(
                &pictures,
                &easel.look,
                loaded.adapters,
                easel.progress,
                easel.stop,
                &mut |index, painted| {
                    let cell = missing.get(index).context("the painter made a picture that was not requested")?;
                    write_png(&self.dir.join(cell.file()), &painted.image, &[])
                },
            );
            easel.progress.end();
            painted?;
        }
        self.write_index(prompts)?;
        Ok(missing.len())
    }

    /// `index.jsonl`: file, prompt, seed of every picture that is there.
    fn write_index(&self, prompts: &[Prompt]) -> Result<()> {
        let mut lines = String::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let cells = (0..).map(|seed| Cell { prompt: index, seed });
            for cell in cells.take_while(|cell| self.dir.join(cell.file()).is_file()) {
                let held_out = prompt.held_out;
                let row = json!({"file": cell.file(), "prompt": prompt.text, "seed": cell.noise_seed(), "held_out": held_out});
                lines.push_str(&format!("{row}\n"));
            }
        }
        write_atomically(&self.dir.join("index.jsonl"), lines.as_bytes())
    }

    /// The picture of a cell.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn picture(&self, cell: Cell) -> Result<RgbImage> {
        let path = self.dir.join(cell.file());
        let image = image::open(&path)
            .with_context(|| format!("{} is no whole picture; remove it, and it is painted again", path.display()))?;
        Ok(image.to_rgb8())
    }
}
