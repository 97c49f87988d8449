//! From items on disk through the cache to batches, with a stand-in for the encoders.

use diffpref::data::batches::{Batch, BatchOptions, Batches, CropRule, Images, NoiseRule, Posterior, TimeIds};
use diffpref::data::cache::{CacheDtype, LatentCache, LatentOptions};
use diffpref::data::draws::Draws;
use diffpref::data::items::{Holdout, Item, ItemKind, ItemSet, Labels, Preference, ReadOptions, Ties};
use diffpref::data::report::DataReport;
use diffpref::data::text_cache::{TextCache, TextOptions};
use diffpref::data::timesteps::TimestepLaw;
use diffpref::data::weights::{WeightSource, Weighting};
use diffpref::progress::{Progress, Signal, Silent, Stop, Stopped};
use pipelines::models::Conditioning;
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
        ItemSet::read(&ReadOptions { path, wanted, ties, labels, swapped, scorer, holdout }).unwrap()
    }

    fn batches(&self, change: impl FnOnce(&mut BatchOptions)) -> Batches {
        Self::batches_of(self.pairs().train, change)
    }

    fn batches_of(items: Vec<Item>, change: impl FnOnce(&mut BatchOptions)) -> Batches {
        let draws = Draws { seed: 5, draws_per_pair: 0, total_timesteps: 1000 };
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
            timesteps: TimestepLaw::all(1000),
            scorer: None,
            weighting: None,
            desirable_share: None,
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
    Conditioning {
        prompt_embeds: Tensor::full([1, 2, 3], prompt.len() as f64, tch::kind::FLOAT_CPU),
        pooled_prompt_embeds: Some(Tensor::full([1, 5], -(prompt.len() as f64), tch::kind::FLOAT_CPU)),
        time_ids: None,
    }
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
    let draws = Draws { seed: 5, draws_per_pair: 0, total_timesteps: 1000 };
    let drawn = batches.batch(3..8, &latents, &texts).unwrap();
    let batch = drawn.batch.unwrap();
    assert!(drawn.left_out.is_empty());
    assert_eq!((batch.latents.size(), batch.noise.size()), (vec![10, 3, 4, 4], vec![10, 3, 4, 4]));
    for (row, position) in (3..8u64).enumerate() {
        let (epoch, place) = (position / 5, (position % 5) as usize);
        let id = format!("p{}", draws.order(epoch, 5).unwrap()[place]);
        assert_eq!(batch.items[row].id, id);
        assert_eq!(batch.items[row].rows, [row as i64, row as i64 + 5]);
        assert_eq!(batch.items[row].timestep, batch.timesteps.int64_value(&[row as i64]));
        for (k, row) in [(0, row as i64), (1, row as i64 + 5)] {
            assert_eq!(
                batch.timesteps.int64_value(&[row]),
                draws.timestep(epoch, &id, &TimestepLaw::all(1000)).unwrap()
            );
            assert!(batch.noise.get(row).equal(&draws.noise(epoch, &id, &SHAPE)));
            let length = if draws.dropout(epoch, &id, 0.2) { 0.0 } else { 8.0 };
            assert_eq!(batch.conditioning.prompt_embeds.double_value(&[row, 1, 2]), length);
            let time_ids = Vec::<f32>::try_from(batch.conditioning.time_ids.as_ref().unwrap().get(row)).unwrap();
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
    assert!(winners.plan(0..30).unwrap().views.iter().all(|v| !v.image.ends_with("l0.png")));
}

impl World {
    /// The pictures of pairs in lists of 3, 2, 4, 3, 2 .. images.
    fn lists(n: u8) -> (Self, Vec<Item>) {
        let world = Self::new(n);
        let row = |i: usize| {
            let image =
                |k: usize| format!("{}{}.png", if k.is_multiple_of(2) { "w" } else { "l" }, (i + k / 2) % n as usize);
            let k = [3, 2, 4][i % 3];
            let images: Vec<String> = (0..k).map(image).collect();
            let ranks: Vec<usize> = (1..=k).collect();
            let row = serde_json::json!({"id": format!("s{i}"), "prompt": format!("prompt {i}"), "images": images, "ranks": ranks});
            format!("{row}\n")
        };
        std::fs::write(world.path("pairs.jsonl"), (0..n as usize).map(row).collect::<String>()).unwrap();
        let items = world.items(ItemKind::Lists).train;
        (world, items)
    }
}

#[test]
fn lists_of_different_lengths_have_their_first_images_first_and_noise_for_each() {
    let (world, items) = World::lists(5);
    let draws = Draws { seed: 5, draws_per_pair: 0, total_timesteps: 1000 };
    for noise in [NoiseRule::PerImage, NoiseRule::Shared] {
        let batches = World::batches_of(items.clone(), |o| o.noise = noise);
        let (latents, texts, _) = world.fill(&batches, 0..5);
        let batch = batches.batch(0..5, &latents, &texts).unwrap().batch.unwrap();
        assert_eq!(rows(&batch), 14);
        let order = draws.order(0, 5).unwrap();
        let mut next = 0;
        for k in 0..4 {
            for (item, index) in batch.items.iter().zip(&order) {
                let length = [3, 2, 4][*index as usize % 3];
                assert_eq!((item.id.clone(), item.rows.len()), (format!("s{index}"), length));
                if k >= length {
                    continue;
                }
                assert_eq!(item.rows[k], next);
                assert_eq!(batch.timesteps.int64_value(&[next]), item.timestep);
                let expected = match noise {
                    NoiseRule::Shared => draws.noise(0, &item.id, &SHAPE),
                    NoiseRule::PerImage => draws.image_noise(0, k, &item.id, &SHAPE),
                };
                assert!(batch.noise.get(next).equal(&expected));
                // What is left after z is a mean of pixels, whose blue tells winners' pictures from losers'.
                let mean = batch.latents.get(next) / 0.5 + 0.25 - draws.vae(0, k, &item.id, &SHAPE) * 0.125;
                let blue = if k.is_multiple_of(2) { -1.0 } else { 1.0 };
                assert!((mean.get(2) - blue).abs().max().double_value(&[]) < 1e-5);
                next += 1;
            }
        }
        let Preference::List { phi } = &batch.items[0].preference else { panic!("no list") };
        assert_eq!(phi.len(), batch.items[0].rows.len());
    }
}

#[test]
fn labelled_images_stand_in_slots_of_their_class_and_each_class_keeps_its_own_order() {
    let world = World::new(4);
    let items = world.items(ItemKind::Labels).train;
    assert_eq!(items.len(), 8);
    let draws = Draws { seed: 5, draws_per_pair: 0, total_timesteps: 1000 };
    let batches = World::batches_of(items.clone(), |o| o.desirable_share = Some(0.8));
    let mut turns = [0u64; 2];
    let mut expected = Vec::new();
    for p in 0..60 {
        let class = usize::from(!draws.slot(p, 0.8));
        let (pass, place) = (turns[class] / 4, turns[class] % 4);
        turns[class] += 1;
        let chosen = draws.class_order(["desirable", "undesirable"][class], pass, 4).unwrap()[place as usize];
        expected.push((format!("p{chosen}:{}", ["w", "l"][class]), pass));
    }
    assert!(turns[0] > 3 * turns[1] && turns[1] > 4, "{turns:?}");
    let item = |p: u64| batches.item(p).map(|(index, pass)| (items[index].id.clone(), pass)).unwrap();
    // In any order, and more than once.
    for p in (0..60).rev().chain(0..60) {
        assert_eq!(item(p), expected[p as usize], "{p}");
    }
    let (latents, texts, _) = world.fill(&batches, 0..60);
    let batch = batches.batch(50..60, &latents, &texts).unwrap().batch.unwrap();
    for (row, (item, (id, pass))) in batch.items.iter().zip(&expected[50..]).enumerate() {
        assert_eq!((&item.id, &item.rows), (id, &vec![row as i64]));
        assert_eq!(item.preference, Preference::Label { desirable: id.ends_with('w') });
        assert!(batch.noise.get(row as i64).equal(&draws.noise(*pass, id, &SHAPE)), "d is the pass of the class");
    }
    assert_eq!(batches.images(60).unwrap().len(), 8);
}

#[test]
fn a_class_without_an_item_and_items_without_a_class_are_refused() {
    let world = World::new(2);
    let refusal = |items: Vec<Item>| {
        let draws = Draws { seed: 5, draws_per_pair: 0, total_timesteps: 1000 };
        let options = World::options(|o| o.desirable_share = Some(0.5));
        Batches::new(items, draws, options).err().unwrap().to_string()
    };
    let winners = world.items(ItemKind::Labels).train.into_iter().filter(|item| item.id.ends_with('w')).collect();
    assert_eq!(refusal(winners), "2 desirable and 0 undesirable images: expected at least one of each");
    assert_eq!(refusal(world.pairs().train), "the item \"p0\" is no labelled image: it belongs to no class");
    let none = World::batches_of(Vec::new(), |_| ());
    assert!(none.is_empty() && none.plan(0..0).unwrap().views.is_empty(), "a method that samples has no items");
}

#[test]
fn weights_and_scores_come_with_the_items_and_not_with_validation() {
    let world = World::new(3);
    let mut items = world.pairs().train;
    for (i, item) in items.iter_mut().enumerate() {
        item.weight = Some([0.5, 1.0, 3.5][i]);
        item.scores.insert("hps".into(), vec![i as f64, 0.25]);
    }
    let weighting = Weighting { source: WeightSource::Column, as_published: false };
    let batches = World::batches_of(items.clone(), |o| (o.weighting, o.scorer) = (Some(weighting), Some("hps".into())));
    let (latents, texts, _) = world.fill(&batches, 0..3);
    let batch = batches.batch(0..3, &latents, &texts).unwrap().batch.unwrap();
    for item in &batch.items {
        let i: usize = item.id[1..].parse().unwrap();
        assert!((item.weight.unwrap() - [0.3, 0.6, 2.1][i]).abs() < 1e-12);
        assert_eq!(item.scores, Some(vec![i as f64, 0.25]));
    }
    let mut plan = batches.plan(0..3).unwrap();
    batches.plan_validation(&mut plan, &items);
    let mut latents = latents;
    latents.ensure(&plan.views, &mut encode, &Silent, &Stop::default()).unwrap();
    let mut texts = texts;
    texts.ensure(&plan.prompts, &mut |p| Ok(embed(p)), &Silent, &Stop::default()).unwrap();
    let validation = batches.validation_batch(&items[2], 2, &latents, &texts).unwrap().unwrap();
    assert!(validation.items.iter().all(|item| item.weight.is_none() && item.scores == Some(vec![2.0, 0.25])));
    assert_eq!(validation.items[1].rows, [1, 3]);
}

#[test]
fn positions_may_be_asked_for_again_with_the_same_result() {
    let (world, items) = World::lists(4);
    let batches =
        World::batches_of(items, |o| o.timesteps = TimestepLaw::Discounted { gamma: 0.9, n_bins: 5, min: 10, max: 90 });
    let (latents, texts, _) = world.fill(&batches, 0..12);
    let draw = |p| batches.batch(p, &latents, &texts).unwrap().batch.unwrap();
    let (first, _, again) = (draw(2..7), draw(9..11), draw(2..7));
    assert_eq!(first.items, again.items);
    assert!(first.latents.equal(&again.latents) && first.noise.equal(&again.noise));
    assert!(first.items.iter().all(|item| (10..=90).contains(&item.timestep)));
}

#[test]
fn an_image_that_changed_is_encoded_anew() {
    let world = World::new(1);
    let batches = world.batches(|o| (o.flip, o.crop) = (0.0, CropRule::Center));
    assert_eq!(world.fill(&batches, 0..1).2, 2);
    image::RgbImage::new(20, 20).save(world.path("w0.png")).unwrap();
    assert_eq!(world.fill(&batches, 0..1).2, 1);
}

#[test]
fn an_interrupted_encode_keeps_what_it_has_and_ends_with_the_same_latents() {
    let (whole, cut) = (World::new(4), World::new(4));
    let batches = cut.batches(|o| (o.flip, o.crop) = (0.0, CropRule::Center));
    let plan = batches.plan(0..4).unwrap();
    let (stop, mut encoded) = (Stop::default(), 0);
    let mut cache = cut.latents(CacheDtype::Float32);
    let mut interrupted = |pixels: &Tensor| {
        encoded += 1;
        if encoded == 3 {
            stop.request(Signal::Interrupt);
        }
        encode(pixels)
    };
    let error = cache.ensure(&plan.views, &mut interrupted, &Silent, &stop).unwrap_err();
    assert!(error.is::<Stopped>(), "{error:#}");
    assert_eq!(encoded, 3);
    drop(cache);
    let (latents, texts, rest) = cut.fill(&batches, 0..4);
    assert_eq!(rest, 5);
    let other = whole.batches(|o| (o.flip, o.crop) = (0.0, CropRule::Center));
    let (whole_latents, whole_texts, _) = whole.fill(&other, 0..4);
    let resumed = batches.batch(0..4, &latents, &texts).unwrap().batch.unwrap();
    let straight = other.batch(0..4, &whole_latents, &whole_texts).unwrap().batch.unwrap();
    assert!(resumed.latents.equal(&straight.latents));
}

fn shard(folder: &Path) -> PathBuf {
    let inner = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::read_dir(inner).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn a_damaged_record_is_told_and_made_anew() {
    let world = World::new(3);
    let batches = world.batches(|o| (o.flip, o.crop) = (0.0, CropRule::Center));
    let (latents, texts, _) = world.fill(&batches, 0..3);
    let before = batches.batch(0..3, &latents, &texts).unwrap().batch.unwrap();
    drop(latents);
    let shard = shard(&world.path("cache/latents"));
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 0x40;
    std::fs::write(&shard, bytes).unwrap();

    let (mut latents, lines, mut encoded) = (world.latents(CacheDtype::Float32), Lines::default(), 0);
    let plan = batches.plan(0..3).unwrap();
    latents.ensure(&plan.views, &mut counting(&mut encoded), &lines, &Stop::default()).unwrap();
    assert_eq!(encoded, 1);
    assert!(lines.0.borrow()[0].starts_with("damaged cache record, made anew:"), "{:?}", lines.0.borrow());
    assert!(lines.0.borrow()[1].starts_with("encoding 1 images once: 0.0 MiB in "), "{:?}", lines.0.borrow());
    let after = batches.batch(0..3, &latents, &texts).unwrap().batch.unwrap();
    assert!(before.latents.equal(&after.latents));
}

#[test]
fn float16_records_are_half_as_precise_and_given_out_in_float32() {
    let world = World::new(1);
    let batches = world.batches(|o| (o.flip, o.crop, o.posterior) = (0.0, CropRule::Center, Posterior::Mean));
    let (exact, texts, _) = world.fill(&batches, 0..1);
    let mut half = world.latents(CacheDtype::Float16);
    half.ensure(&batches.plan(0..1).unwrap().views, &mut encode, &Silent, &Stop::default()).unwrap();
    let exact = batches.batch(0..1, &exact, &texts).unwrap().batch.unwrap().latents;
    let half = batches.batch(0..1, &half, &texts).unwrap().batch.unwrap().latents;
    let off = (&exact - &half).abs().max().double_value(&[]);
    assert_eq!(half.kind(), tch::Kind::Float);
    assert!(off > 0.0 && off < 1e-3, "{off}");
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
    assert_eq!(Vec::<i64>::try_from(&batch.timesteps).unwrap(), [125, 375, 625, 875, 125, 375, 625, 875]);
    let draws = Draws { seed: 99, draws_per_pair: 7, total_timesteps: 1000 };
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
