//! Pictures of fixed prompts and seeds while training: `samples/step-000200/PROMPT-SEED.png`.

use crate::keys::ConfigError;
use crate::metrics::SamplePlan;
use crate::painting::{Grid, Look, Painter, Picture, Sampling, encode_png, grid, write_png};
use crate::rollout::Resources;
use crate::settings::{SampleConfig, Settings};
use anyhow::{Context, Result};
use image::RgbImage;
use pipelines::Conditioning;
use pipelines::sampling::Guidance;
use pipelines::schedulers::{SamplerOptions, SchedulerConfig};
use std::path::Path;

/// Sampling options of [sample].
///
/// # Errors
/// [`ConfigError`] for sampler and steps that do not fit the model.
pub fn sampling(sample: &SampleConfig, noise_process: &SchedulerConfig) -> Result<Sampling, ConfigError> {
    let refuse = |problem: String| {
        let name = sample.scheduler.name;
        ConfigError(format!("sample.scheduler = \"{name}\", sample.steps = {}: {problem}", sample.steps))
    };
    let sampling = Sampling {
        scheduler: sample.scheduler,
        steps: sample.steps as i64,
        options: SamplerOptions::default(),
        guidance: Guidance::of_scale(sample.guidance_scale),
    };
    sampling.sampler(noise_process).map_err(|e| refuse(e.to_string()))?;
    Ok(sampling)
}

/// Paints the grid of `step` with the current weights and returns it as PNG bytes.
pub fn paint(
    run: &Path,
    step: u64,
    config: &Settings,
    resources: &Resources,
    empty_side: Conditioning,
) -> Result<Vec<u8>> {
    let Resources { networks, prompts, folder, progress, stop } = *resources;
    let sample = &config.sample;
    let dir = run.join("samples").join(format!("step-{step:06}"));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let plan = SamplePlan { prompts: sample.prompts.clone(), seeds: sample.seeds.clone() };
    plan.write(&run.join("samples"))?;
    let mut pictures = Vec::new();
    let mut files = Vec::new();
    for (i, prompt) in sample.prompts.iter().enumerate() {
        for seed in &sample.seeds {
            pictures.push(Picture { prompt, seed: *seed as u64 });
            files.push(dir.join(format!("{i:02}-{seed}.png")));
        }
    }
    let look = Look {
        width: config.data.resolution,
        height: config.data.resolution,
        sampling: sampling(sample, folder.scheduler())?,
        batch: 4,
        ..Look::default()
    };
    // The decoder is loaded for the grid and dropped after it: it is not resident while training.
    let vae = folder.load_vae(config.model.vae.as_deref(), &networks.machine.frozen())?;
    let painter = Painter {
        denoiser: &networks.policy.denoiser,
        negative_network: None,
        vae: &vae,
        scheduler: folder.scheduler(),
        conditioning: Box::new(|prompt| prompts.conditioning(&[prompt])),
        // A grid has no negative prompts.
        negative: Box::new(|_| Ok(empty_side.shallow_clone())),
        device: networks.machine.device,
        kind: networks.machine.compute,
    };
    progress.begin("sample", 0, pictures.len() as u64);
    let mut images: Vec<RgbImage> = Vec::new();
    let painted = painter.paint(&pictures, &look, networks.policy.adapters, progress, stop, &mut |i, painted| {
        write_png(&files[i], &painted.image, &[])?;
        images.push(painted.image);
        Ok(())
    });
    progress.end();
    painted?;
    let layout = Grid { columns: sample.seeds.len().max(1) as u32, rows: sample.prompts.len() as u32 };
    encode_png(&grid(layout, &images), &[])
}
