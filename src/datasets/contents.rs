//! Reads images: their bytes, pixels and sizes, on several threads.

use super::gather::{Gathered, Pair};
use super::summary::Contents;
use crate::data::ahead;
use crate::data::decode;
use crate::data::findings::{Findings, marks};
use crate::data::items::ImageRef;
use crate::data::unreadable::Unreadable;
use crate::progress::{Progress, Stop};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A short digest: half a SHA-256.
type Short = [u8; 16];

/// One image, read.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub bytes: Short,
    pub pixels: Short,
    pub size: (u32, u32),
}

impl Seen {
    /// Reads and decodes an image.
    ///
    /// # Errors
    /// Bytes that cannot be read or decoded.
    pub fn of(image: &ImageRef) -> Result<Self, Unreadable> {
        let bytes = image.bytes()?;
        let picture = decode::decode(&bytes)?;
        let size = picture.dimensions();
        let mut pixels = Sha256::new();
        pixels.update(size.0.to_le_bytes());
        pixels.update(picture.as_raw());
        Ok(Self { bytes: short(&Sha256::digest(&bytes)), pixels: short(&pixels.finalize()), size })
    }
}

fn short(digest: &[u8]) -> Short {
    let mut half = Short::default();
    half.copy_from_slice(&digest[..16]);
    half
}

/// Reads images in order.
///
/// # Errors
/// `Stopped`.
pub fn read(
    images: &[ImageRef],
    workers: usize,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Vec<Result<Seen, Unreadable>>> {
    progress.begin("read", 0, images.len() as u64);
    let mut all = Vec::with_capacity(images.len());
    let mut stopped = Ok(());
    ahead::in_order(workers, images, Seen::of, |done, seen| {
        all.push(seen);
        progress.advance(done as u64 + 1, "");
        stopped = stop.check();
        stopped.is_ok()
    });
    progress.end();
    stopped?;
    Ok(all)
}

/// Reads the images of a data set. `pairs`: the most pairs whose images are read; `None`: all images.
///
/// # Errors
/// `Stopped`.
pub fn contents(
    gathered: &Gathered,
    pairs: Option<usize>,
    workers: usize,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Contents> {
    let chosen: Vec<u32> = match pairs {
        None => (0..gathered.images.len() as u32).collect(),
        Some(most) => {
            let mut chosen = HashSet::new();
            let first = gathered.pairs.iter().take(most).flat_map(|pair| [pair.1, pair.2]);
            first.filter(|image| chosen.insert(*image)).collect()
        }
    };
    let images: Vec<ImageRef> = chosen.iter().map(|image| gathered.images[*image as usize].clone()).collect();
    let read = read(&images, workers, progress, stop)?;
    let seen: HashMap<u32, Seen> =
        chosen.iter().zip(&read).filter_map(|(image, seen)| Some((*image, *seen.as_ref().ok()?))).collect();
    let unreadable = images.iter().zip(&read).filter_map(|(image, seen)| {
        let reason = seen.as_ref().err()?;
        Some((image.to_string(), reason.to_string()))
    });
    Ok(Contents {
        read: chosen.len(),
        unreadable: unreadable.collect(),
        duplicates: seen.len() - seen.values().map(|seen| seen.bytes).collect::<HashSet<_>>().len(),
        findings: findings(gathered, &seen),
        sizes: sizes(&seen),
    })
}

fn findings(gathered: &Gathered, seen: &HashMap<u32, Seen>) -> Findings {
    let content = |(prompt, winner, loser, tie): &Pair| {
        let (winner, loser) = (seen.get(winner)?, seen.get(loser)?);
        Some((*prompt, winner.bytes, loser.bytes, *tie))
    };
    let pairs: Vec<_> = gathered.pairs.iter().filter_map(content).collect();
    let mut findings = Findings { scored_against: gathered.findings.scored_against.clone(), ..Findings::default() };
    findings.add(&marks(&pairs));
    let same = |pair: &&Pair| match (seen.get(&pair.1), seen.get(&pair.2)) {
        (Some(winner), Some(loser)) => winner.pixels == loser.pixels,
        _ => false,
    };
    findings.same_image = gathered.pairs.iter().filter(same).count();
    findings
}

fn sizes(seen: &HashMap<u32, Seen>) -> Vec<(u32, u32, usize)> {
    let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    seen.values().for_each(|seen| *counts.entry(seen.size).or_default() += 1);
    let mut sizes: Vec<_> = counts.into_iter().map(|((width, height), n)| (width, height, n)).collect();
    sizes.sort_by_key(|size| Reverse(size.2));
    sizes
}
