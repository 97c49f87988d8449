//! Latent cache: mean and std of the VAE's posterior for every view of a run, encoded once.
//!
//! Records are keyed by the VAE's weights, the bytes of the image file and the transform. Runs and fine-tunes with
//! the same VAE share them, wherever the image is stored. Images are encoded one at a time, so an interrupted encode
//! continues to the same bytes.

use super::ahead;
use super::image_ref::ImageRef;
use super::records::{Record, Records};
use super::transforms::{Crop, Transformed, View};
use super::unreadable::Unreadable;
use crate::machine::bytes::in_words;
use crate::machine::disk::check_space;
use crate::machine::hashes::{HashMemory, of_bytes};
use crate::progress::{Progress, Stop};
use anyhow::{Context, Result, bail, ensure};
use pipelines::Dtype;
use pipelines::weights::is_finite;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch::{Kind, Tensor};

crate::choice! {
    /// Storage type of cached latents and embeddings. They are always returned in float32.
    #[derive(Default)]
    pub enum CacheDtype {
        #[default]
        Float32 = "float32",
        Float16 = "float16",
    }
}

impl CacheDtype {
    pub(super) fn kind(self) -> Kind {
        let dtype = match self {
            CacheDtype::Float32 => Dtype::Float32,
            CacheDtype::Float16 => Dtype::Float16,
        };
        dtype.kind()
    }
}

/// All inputs of a run's latents, and the cache folder.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentOptions {
    pub cache_dir: PathBuf,
    /// SHA-256 of the VAE's weights.
    pub vae_sha256: String,
    /// R: views are R x R pixels.
    pub resolution: u32,
    /// C, h, w of the latents of an R x R image.
    pub latent_shape: [i64; 3],
    pub dtype: CacheDtype,
    /// Least shorter side of an image in pixels; 0: any.
    pub min_size: i64,
    /// Threads that decode images ahead of the encoder. They affect only time.
    pub workers: usize,
}

/// The posterior of the VAE for one view.
#[derive(Debug)]
pub struct Moments {
    /// `[C, h, w]` float32, unscaled
    pub mean: Tensor,
    /// `[C, h, w]` float32
    pub std: Tensor,
    /// Height and width of the file (upright), top and left of the crop, R, R.
    pub time_ids: [i64; 6],
}

/// Encodes `[1, 3, R, R]` pixels in [-1, 1] to mean and std of the posterior, `[1, C, h, w]` each.
pub type EncodeImage<'a> = dyn FnMut(&Tensor) -> Result<(Tensor, Tensor)> + 'a;

/// The latents of a run's views.
pub struct LatentCache {
    options: LatentOptions,
    records: Records,
    hashes: HashMemory,
    /// Ensured views -> keys of their records.
    keys: HashMap<View, String>,
    image_sha256: BTreeMap<ImageRef, String>,
    unreadable: BTreeMap<ImageRef, String>,
    small: BTreeSet<ImageRef>,
}

impl LatentCache {
    pub fn open(options: LatentOptions) -> Result<Self> {
        let folder = options.cache_dir.join("latents").join(short(&options.vae_sha256));
        Ok(Self {
            records: Records::open(&folder)?,
            hashes: HashMemory::open(&options.cache_dir),
            options,
            keys: HashMap::new(),
            image_sha256: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            small: BTreeSet::new(),
        })
    }

    /// Ensures a record of every view, or the reason why its image has none ([`unreadable`](Self::unreadable)).
    ///
    /// # Errors
    /// `Stopped` after a stop signal (finished records are kept), a full disk, errors of `encode`.
    pub fn ensure(
        &mut self,
        views: &[View],
        encode: &mut EncodeImage,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        let missing = self.missing(views, stop);
        for line in self.records.damage.drain(..) {
            progress.line(&line);
        }
        let missing = missing?;
        let result = self.encode_all(&missing, encode, progress, stop);
        if result.is_err() {
            self.keys.clear(); // some have no record yet: a later call tries again
        }
        self.records.flush()?;
        self.hashes.save();
        result
    }

    /// The views without a record, each content once.
    fn missing(&mut self, views: &[View], stop: &Stop) -> Result<Vec<(View, String)>> {
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for view in views {
            stop.check()?;
            if self.keys.contains_key(view) || self.unreadable.contains_key(&view.image) {
                continue;
            }
            let Some(sha256) = self.hash(&view.image) else { continue };
            let key = self.key(&sha256, view);
            self.keys.insert(view.clone(), key.clone());
            if seen.insert(key.clone()) && !self.records.holds(&key) {
                missing.push((view.clone(), key));
            } else if self.options.min_size > 0 {
                self.note_small_record(&view.image, &key)?;
            }
        }
        Ok(missing)
    }

    /// SHA-256 of an image's bytes; an unreadable one is noted.
    fn hash(&mut self, image: &ImageRef) -> Option<String> {
        if let Some(known) = self.image_sha256.get(image) {
            return Some(known.clone());
        }
        match image.sha256(&mut self.hashes) {
            Ok(hash) => {
                self.image_sha256.insert(image.clone(), hash.clone());
                Some(hash)
            }
            Err(reason) => {
                self.unreadable.insert(image.clone(), reason.to_string());
                None
            }
        }
    }

    fn key(&self, image_sha256: &str, view: &View) -> String {
        let crop = match view.crop {
            Crop::Center => "center".to_string(),
            Crop::At { index, count } => format!("{index} of {count}"),
        };
        let o = &self.options;
        let (vae, r, dtype) = (&o.vae_sha256, o.resolution, o.dtype.name());
        let text = format!("latents 1|{vae}|{image_sha256}|{r}|crop {crop}|flip {}|{dtype}", view.flip);
        short(&of_bytes(text.as_bytes()))
    }

    fn encode_all(
        &mut self,
        missing: &[(View, String)],
        encode: &mut EncodeImage,
        progress: &dyn Progress,
        stop: &Stop,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = missing.len() as u64 * self.record_bytes();
        check_cache_space(&self.options.cache_dir, bytes)?;
        let _no_grad = tch::no_grad_guard();
        progress.begin("encode", 0, missing.len() as u64);
        let mut result = Ok(());
        let views: Vec<&View> = missing.iter().map(|(view, _)| view).collect();
        // Measured from one image to the next, including the wait for the decoders.
        let mut started = Instant::now();
        let (workers, resolution) = (self.options.workers, self.options.resolution);
        ahead::in_order(
            workers,
            &views,
            |view| ahead::decoded(view, resolution),
            |done, transformed| {
                let (view, key) = &missing[done];
                result =
                    stop.check().map_err(Into::into).and_then(|()| self.encode_one(view, key, transformed, encode));
                if result.is_ok() {
                    announce("images", done, missing.len(), bytes, &self.options.cache_dir, started, progress);
                    progress.advance(done as u64 + 1, "");
                }
                started = Instant::now();
                result.is_ok()
            },
        );
        progress.end();
        result
    }

    fn encode_one(
        &mut self,
        view: &View,
        key: &str,
        transformed: Result<Transformed, Unreadable>,
        encode: &mut EncodeImage,
    ) -> Result<()> {
        let Transformed { pixels, time_ids } = match transformed {
            Ok(transformed) => transformed,
            Err(reason) => {
                self.note_unreadable(&view.image, &reason);
                return Ok(());
            }
        };
        if time_ids[0].min(time_ids[1]) < self.options.min_size {
            let sha256 = self.image_sha256.get(&view.image);
            let same = self.image_sha256.iter().filter(|(_, s)| Some(*s) == sha256).map(|(image, _)| image.clone());
            self.small.extend(same);
            return Ok(());
        }
        // [3, R, R] -> [1, 3, R, R]
        let (mean, std) = encode(&pixels.unsqueeze(0)).with_context(|| format!("encoding {}", view.image))?;
        let mut record = Record::from([("time_ids".to_string(), Tensor::from_slice(&time_ids))]);
        for (name, value) in [("mean", mean), ("std", std)] {
            record.insert(name.into(), self.checked(name, value).with_context(|| view.image.to_string())?);
        }
        self.records.put(key.to_string(), record)
    }

    /// Marks the image of a record of an earlier run if it is too small.
    fn note_small_record(&mut self, image: &ImageRef, key: &str) -> Result<()> {
        let sizes = self.records.get(key)?.and_then(|mut record| record.remove("time_ids"));
        if let Some([height, width, ..]) = sizes.map(Vec::<i64>::try_from).transpose()?.as_deref()
            && *height.min(width) < self.options.min_size
        {
            self.small.insert(image.clone());
        }
        Ok(())
    }

    /// Marks an image and all others of the same content, which were not tried, as unreadable.
    fn note_unreadable(&mut self, image: &ImageRef, reason: &Unreadable) {
        let sha256 = self.image_sha256.get(image);
        let same = self.image_sha256.iter().filter(|(_, s)| Some(*s) == sha256).map(|(image, _)| image.clone());
        self.unreadable.extend(same.map(|image| (image, reason.to_string())));
    }

    /// `[1, C, h, w]` -> `[C, h, w]` in the cache's type, finite.
    fn checked(&self, name: &str, value: Tensor) -> Result<Tensor> {
        let shape = self.options.latent_shape;
        let numel: i64 = shape.iter().product();
        ensure!(
            value.numel() as i64 == numel,
            "the VAE's {name} has the shape {:?}, expected {shape:?}; \
             the resolution must be a multiple of the VAE's factor",
            value.size()
        );
        let value = value.detach().to_device(tch::Device::Cpu).view(shape).to_kind(self.options.dtype.kind());
        if !is_finite(&value)? {
            bail!(
                "the VAE's {name} is not finite in {}; use another VAE or cache_dtype float32",
                self.options.dtype.name()
            );
        }
        Ok(value.contiguous())
    }

    fn record_bytes(&self) -> u64 {
        let values: i64 = self.options.latent_shape.iter().product();
        2 * values.unsigned_abs() * self.options.dtype.kind().elt_size_in_bytes() as u64 + 6 * 8
    }

    /// The posterior of a view; `None` if its image is unusable.
    ///
    /// # Errors
    /// A view that was never ensured, a record damaged since.
    pub fn moments(&self, view: &View) -> Result<Option<Moments>> {
        if self.unreadable.contains_key(&view.image) || self.small.contains(&view.image) {
            return Ok(None);
        }
        let unplanned = || format!("{} was not encoded (flip {}, {:?})", view.image, view.flip, view.crop);
        let key = self.keys.get(view).with_context(unplanned)?;
        let mut record = self.records.get(key)?.with_context(unplanned)?;
        let mut take = |name: &str| record.remove(name).with_context(|| format!("cache record {key} has no {name}"));
        let time_ids = Vec::<i64>::try_from(take("time_ids")?)?;
        let time_ids = time_ids.try_into().ok().with_context(|| format!("cache record {key} has odd time_ids"))?;
        let (mean, std) = (take("mean")?.to_kind(Kind::Float), take("std")?.to_kind(Kind::Float));
        Ok(Some(Moments { mean, std, time_ids }))
    }

    /// Drops what is known of views and images. Their records stay.
    pub fn forget(&mut self) {
        self.keys.clear();
        self.image_sha256.clear();
        self.unreadable.clear();
        self.small.clear();
    }

    /// Images that are smaller than `min_size`.
    pub fn small(&self) -> &BTreeSet<ImageRef> {
        &self.small
    }

    /// Unusable images, with the reason.
    pub fn unreadable(&self) -> &BTreeMap<ImageRef, String> {
        &self.unreadable
    }
}

/// Refuses to encode what does not fit on the disk of the cache folder.
pub(super) fn check_cache_space(dir: &Path, needed: u64) -> Result<()> {
    let remedy = "set data.cache_dir to another disk, or data.cache_dtype to \"float16\"";
    check_space(dir, needed, "the cache", remedy)
}

/// Reports the expected duration of an encode after the second item; the first may include loading the encoder.
pub(super) fn announce(
    what: &str,
    done: usize,
    n: usize,
    bytes: u64,
    dir: &Path,
    started: Instant,
    progress: &dyn Progress,
) {
    if done != 1.min(n - 1) {
        return;
    }
    let seconds = started.elapsed().as_secs_f64() * n as f64;
    let size = in_words(bytes);
    progress.forecast(&format!("encoding {n} {what} once: {size} in {}, about {seconds:.0} s", dir.display()));
}

/// The first half of a SHA-256: enough to separate records, and half as long in headers.
pub(super) fn short(sha256: &str) -> String {
    sha256.chars().take(32).collect()
}
