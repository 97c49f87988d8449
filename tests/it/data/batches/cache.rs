//! What the caches keep, and what they make anew.

use super::*;

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
    assert!(lines.0.borrow()[0].starts_with("damaged cache record, made again:"), "{:?}", lines.0.borrow());
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
