//! From items on disk through the cache to batches, with a stand-in for the encoders.

mod cache;
mod kinds;

use diffpref::data::batches::{Batch, BatchOptions, Batches, CropRule, Images, NoiseRule, Posterior, TimeIds};
use diffpref::data::cache::{CacheDtype, LatentCache, LatentOptions};
use diffpref::data::draws::Draws;
use diffpref::data::items::{Holdout, Item, ItemKind, ItemSet, Labels, Preference, ReadOptions, Ties};
use diffpref::data::report::DataReport;
use diffpref::data::text_cache::{TextCache, TextOptions};
use diffpref::data::timesteps::TimestepLaw;
use diffpref::data::weights::{WeightSource, Weighting};
use diffpref::progress::{Progress, Signal, Silent, Stop, Stopped};
use pipelines::{Conditioning, LevelRange};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tch::Tensor;

const SHAPE: [i64; 3] = [3, 4, 4];

/// A data set of `n` pairs of coloured 16 x 12 pictures in a fresh folder.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new(n: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = String::new();
        for i in 0..n {
            for (side, blue) in [("w", 0), ("l", 255)] {
                let picture = image::RgbImage::from_fn(16, 12, |x, y| image::Rgb([i * 20, (x * y) as u8, blue]));
                picture.save(dir.path().join(format!("{side}{i}.png"))).unwrap();
            }
            rows += &format!(
                "{{\"id\": \"p{i}\", \"prompt\": \"prompt {i}\", \"winner\": \"w{i}.png\", \"loser\": \"l{i}.png\"}}\n"
            );
        }
        std::fs::write(dir.path().join("pairs.jsonl"), rows).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pairs(&self) -> ItemSet {
        self.items(ItemKind::Pairs)
    }

    fn items(&self, wanted: ItemKind) -> ItemSet {
        let (path, ties, holdout) = (self.path("pairs.jsonl"), Ties::Drop, Holdout::Fraction(0.0));
        let (labels, swapped, scorer) = (Labels::Given, false, None);
        ItemSet::read(&ReadOptions {
            format: None,
            filters: Default::default(),
            path,
            wanted,
            ties,
            labels,
            swapped,
            scorer,
            holdout,
        })
        .unwrap()
    }

    fn batches(&self, change: impl FnOnce(&mut BatchOptions)) -> Batches {
        Self::batches_of(self.pairs().train, change)
    }

    fn batches_of(items: Vec<Item>, change: impl FnOnce(&mut BatchOptions)) -> Batches {
        let draws = Draws { seed: 5, draws_per_pair: 0, range: LevelRange::Steps(1000) };
        Batches::new(items, draws, Self::options(change)).unwrap()
    }

    fn options(change: impl FnOnce(&mut BatchOptions)) -> BatchOptions {
        let mut options = BatchOptions {
            posterior: Posterior::Sample,
            crop: CropRule::Random { crops: 4 },
            flip: 0.5,
            prompt_dropout: 0.2,
            scaling_factor: 0.5,
            shift_factor: 0.25,
            resolution: 8,
            latent_shape: SHAPE,
            time_ids: None,
            images: Images::All,
            noise: NoiseRule::Shared,
            timesteps: TimestepLaw::all(LevelRange::Steps(1000)),
            scorer: None,
            weighting: None,
            desirable_share: None,
            block: None,
        };
        change(&mut options);
        options
    }

    fn latents(&self, dtype: CacheDtype) -> LatentCache {
        let cache_dir = self.path("cache");
        let vae_sha256 = "5eed".into();
        LatentCache::open(LatentOptions {
            cache_dir,
            vae_sha256,
            resolution: 8,
            latent_shape: SHAPE,
            dtype,
            min_size: 0,
            workers: 2,
        })
        .unwrap()
    }

    fn texts(&self) -> TextCache {
        let (cache_dir, encoder_sha256) = (self.path("cache"), "c11b".into());
        TextCache::open(TextOptions { cache_dir, encoder_sha256, clip_skip: 0, dtype: CacheDtype::Float32 }).unwrap()
    }

    /// Fills both caches for these positions; returns them and how many images were encoded.
    fn fill(&self, batches: &Batches, positions: std::ops::Range<u64>) -> (LatentCache, TextCache, usize) {
        let plan = batches.plan(positions).unwrap();
        let (mut latents, mut texts) = (self.latents(CacheDtype::Float32), self.texts());
        let mut encoded = 0;
        latents.ensure(&plan.views, &mut counting(&mut encoded), &Silent, &Stop::default()).unwrap();
        texts.ensure(&plan.prompts, &mut |p| Ok(embed(p)), &Silent, &Stop::default()).unwrap();
        (latents, texts, encoded)
    }
}

/// `[1, 3, 8, 8]` -> mean of 2 x 2 blocks, constant std.
fn encode(pixels: &Tensor) -> anyhow::Result<(Tensor, Tensor)> {
    assert_eq!(pixels.size(), [1, 3, 8, 8]);
    let mean = pixels.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
    Ok((mean.shallow_clone(), mean.full_like(0.125)))
}

fn counting(count: &mut usize) -> impl FnMut(&Tensor) -> anyhow::Result<(Tensor, Tensor)> + '_ {
    |pixels| {
        *count += 1;
        encode(pixels)
    }
}

fn embed(prompt: &str) -> Conditioning {
    Conditioning::of_prompt(Tensor::full([1, 2, 3], prompt.len() as f64, tch::kind::FLOAT_CPU))
        .with("pooled_prompt_embeds", Tensor::full([1, 5], -(prompt.len() as f64), tch::kind::FLOAT_CPU))
}

/// Keeps the lines that a user would see.
#[derive(Default)]
struct Lines(RefCell<Vec<String>>);

impl Progress for Lines {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn line(&self, text: &str) {
        self.0.borrow_mut().push(text.into());
    }
}

fn rows(batch: &Batch) -> i64 {
    batch.latents.size()[0]
}

#[test]
fn batches_follow_the_streams_and_hold_winners_first() {
    let world = World::new(5);
    let batches = world.batches(|o| o.time_ids = Some(TimeIds::TrueSizes));
    let (latents, texts, _) = world.fill(&batches, 0..12);
    let draws = Draws { seed: 5, draws_per_pair: 0, range: LevelRange::Steps(1000) };
    let drawn = batches.batch(3..8, &latents, &texts).unwrap();
    let batch = drawn.batch.unwrap();
    assert!(drawn.left_out.is_empty());
    assert_eq!((batch.latents.size(), batch.noise.size()), (vec![10, 3, 4, 4], vec![10, 3, 4, 4]));
    for (row, position) in (3..8u64).enumerate() {
        let (epoch, place) = (position / 5, (position % 5) as usize);
        let id = format!("p{}", draws.order(epoch, 5).unwrap()[place]);
        assert_eq!(batch.items[row].id, id);
        assert_eq!(batch.items[row].rows, [row as i64, row as i64 + 5]);
        assert_eq!(batch.items[row].level, batch.levels.values()[row]);
        for (k, row) in [(0, row as i64), (1, row as i64 + 5)] {
            assert_eq!(
                batch.levels.values()[row as usize],
                draws.level(epoch, &id, &TimestepLaw::all(LevelRange::Steps(1000))).unwrap()
            );
            assert!(batch.noise.get(row).equal(&draws.noise(epoch, &id, &SHAPE)));
            let length = if draws.dropout(epoch, &id, 0.2) { 0.0 } else { 8.0 };
            assert_eq!(batch.conditioning.get("prompt_embeds").unwrap().double_value(&[row, 1, 2]), length);
            let time_ids = Vec::<f32>::try_from(batch.conditioning.get("time_ids").unwrap().get(row)).unwrap();
            let left = [0.0, 1.0, 1.0, 2.0][draws.crop(epoch, k, &id, 4).unwrap() as usize];
            assert_eq!(time_ids, [12.0, 16.0, 0.0, left, 8.0, 8.0]);
            // (mean + std z - shift) scale: what is left after z is a mean of pixels, whose blue tells the side.
            let z = draws.vae(epoch, k, &id, &SHAPE);
            let mean = batch.latents.get(row) / 0.5 + 0.25 - z * 0.125;
            let blue = if k == 0 { -1.0 } else { 1.0 };
            assert!((mean.get(2) - blue).abs().max().double_value(&[]) < 1e-5);
        }
    }
}

#[test]
fn the_size_of_a_micro_batch_changes_nothing() {
    let world = World::new(4);
    let batches = world.batches(|_| ());
    let (latents, texts, _) = world.fill(&batches, 0..8);
    let one = |p: u64| batches.batch(p..p + 1, &latents, &texts).unwrap().batch.unwrap();
    let all = batches.batch(2..6, &latents, &texts).unwrap().batch.unwrap();
    for (row, p) in (2..6).enumerate() {
        let alone = one(p);
        assert_eq!(all.items[row].id, alone.items[0].id);
        for side in 0..2 {
            assert!(all.latents.get(row as i64 + 4 * side).equal(&alone.latents.get(side)));
            assert!(all.noise.get(row as i64 + 4 * side).equal(&alone.noise.get(side)));
        }
    }
}

#[test]
fn each_distinct_image_is_encoded_once_and_a_second_run_encodes_nothing() {
    let world = World::new(3);
    std::fs::copy(world.path("w0.png"), world.path("w1.png")).unwrap();
    let batches = world.batches(|o| (o.flip, o.crop) = (0.0, CropRule::Center));
    assert_eq!(world.fill(&batches, 0..30).2, 5);
    assert_eq!(world.fill(&batches, 0..30).2, 0);
    let winners = world.batches(|o| (o.flip, o.crop, o.images) = (0.0, CropRule::Center, Images::First));
    assert!(winners.plan(0..30).unwrap().views.iter().all(|v| !v.image.file().ends_with("l0.png")));
}

#[test]
fn positions_may_be_asked_for_again_with_the_same_result() {
    let (world, items) = World::lists(4);
    let batches = World::batches_of(items, |o| {
        o.timesteps = TimestepLaw::Discounted { gamma: 0.9, n_bins: 5, min: 10.0, max: 90.0 }
    });
    let (latents, texts, _) = world.fill(&batches, 0..12);
    let draw = |p| batches.batch(p, &latents, &texts).unwrap().batch.unwrap();
    let (first, _, again) = (draw(2..7), draw(9..11), draw(2..7));
    assert_eq!(first.items, again.items);
    assert!(first.latents.equal(&again.latents) && first.noise.equal(&again.noise));
    assert!(first.items.iter().all(|item| (10.0..=90.0).contains(&item.level)));
}

#[test]
fn pairs_with_unusable_images_keep_their_position_and_are_left_out_and_reported() {
    let world = World::new(5);
    let whole = std::fs::read(world.path("w1.png")).unwrap();
    std::fs::write(world.path("w1.png"), &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(world.path("l3.png")).unwrap();
    std::fs::write(world.path("l4.png"), "no image").unwrap();
    std::fs::write(world.path("w4.png"), "no image").unwrap();
    let batches = world.batches(|_| ());
    let (latents, texts, _) = world.fill(&batches, 0..5);
    let drawn = batches.batch(0..5, &latents, &texts).unwrap();
    let mut left_out = drawn.left_out.clone();
    left_out.sort();
    assert_eq!(left_out, ["p1", "p3", "p4"]);
    let batch = drawn.batch.unwrap();
    assert_eq!((batch.items.len(), rows(&batch)), (2, 4));
    let bad = (0..5).find(|p| batches.items()[batches.item(*p).unwrap().0].id == "p3").unwrap();
    assert!(batches.batch(bad..bad + 1, &latents, &texts).unwrap().batch.is_none());

    let set = world.pairs();
    let mut report = DataReport::new(&set);
    let read: Vec<_> = set.train.iter().map(|item| (item.id.as_str(), item.images.as_slice())).collect();
    report.add_images(&read, latents.unreadable());
    assert_eq!((report.items_read, report.items_bad, report.bad_images.len()), (5, 3, 4));
    report.check(0.6).unwrap();
    let error = report.check(0.01).unwrap_err().to_string();
    assert!(
        error.contains(
            "pairs.jsonl: 3 of 5 items have an image that cannot be used, above data.max_bad_fraction = 0.01:"
        )
    );
    assert!(error.contains("l3.png: the file is missing"), "{error}");
    assert!(error.contains("w1.png: the file is truncated"), "{error}");
    assert!(error.contains("l4.png: not an image: it is a text file"), "{error}");
    assert!(error.ends_with("restore these images, remove their rows, or raise data.max_bad_fraction"));
    report.write(&world.path("data-report.json")).unwrap();
    let written = std::fs::read_to_string(world.path("data-report.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["bad_images"][0]["items"], serde_json::json!(["p3"]));
}

#[test]
fn validation_reads_centres_means_and_fixed_noise() {
    let world = World::new(3);
    let batches = world.batches(|o| o.images = Images::First);
    let held_out = world.pairs().train;
    let (mut latents, mut texts, _) = world.fill(&batches, 0..1);
    let mut plan = batches.plan(0..1).unwrap();
    batches.plan_validation(&mut plan, &held_out);
    latents.ensure(&plan.views, &mut encode, &Silent, &Stop::default()).unwrap();
    texts.ensure(&plan.prompts, &mut |p| Ok(embed(p)), &Silent, &Stop::default()).unwrap();
    let batch = batches.validation_batch(&held_out[2], 4, &latents, &texts).unwrap().unwrap();
    assert_eq!((batch.items.len(), rows(&batch)), (4, 8));
    assert_eq!(batch.levels.values(), [125.0, 375.0, 625.0, 875.0].repeat(2));
    let draws = Draws { seed: 99, draws_per_pair: 7, range: LevelRange::Steps(1000) };
    assert!(batch.noise.get(6).equal(&draws.val_noise(2, "p2", &SHAPE)));
    assert!(batch.latents.get(0).equal(&batch.latents.get(3)) && !batch.latents.get(0).equal(&batch.latents.get(4)));
}

#[test]
fn a_latent_of_another_size_is_refused() {
    let world = World::new(1);
    let batches = world.batches(|_| ());
    let plan = batches.plan(0..1).unwrap();
    let mut wrong =
        |_: &Tensor| Ok((Tensor::zeros([1, 3, 3, 4], tch::kind::FLOAT_CPU), Tensor::zeros([1], tch::kind::FLOAT_CPU)));
    let error =
        world.latents(CacheDtype::Float32).ensure(&plan.views, &mut wrong, &Silent, &Stop::default()).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("the VAE's mean has the shape [1, 3, 3, 4], expected [3, 4, 4]"), "{error}");
}

#[test]
fn what_was_not_planned_is_an_error_not_a_gap() {
    let world = World::new(2);
    let batches = world.batches(|_| ());
    let error = batches.batch(0..1, &world.latents(CacheDtype::Float32), &world.texts()).unwrap_err().to_string();
    assert!(error.contains("was not encoded"), "{error}");
}
