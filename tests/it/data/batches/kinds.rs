//! Lists, labelled images, and what comes with items.

use super::*;

impl World {
    /// The pictures of pairs in lists of 3, 2, 4, 3, 2 .. images.
    pub fn lists(n: u8) -> (Self, Vec<Item>) {
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
    let draws = Draws { seed: 5, draws_per_pair: 0, range: LevelRange::Steps(1000) };
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
                assert_eq!(batch.levels.values()[next as usize], item.level);
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
    let draws = Draws { seed: 5, draws_per_pair: 0, range: LevelRange::Steps(1000) };
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
        let draws = Draws { seed: 5, draws_per_pair: 0, range: LevelRange::Steps(1000) };
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
