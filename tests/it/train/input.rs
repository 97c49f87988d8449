//! Models, data and machines that are not as they should be: exit code 1, a message that says what to do, and a run
//! that can still be used.

use crate::support::{self, Messages, World, copy, files, flags, json, metrics, names, succeeds, timeless};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// A copy of the model to damage, and the override that trains it.
fn own_model(world: &World) -> String {
    copy(&support::model(), &world.path("model"));
    format!("model.path={:?}", world.path("model").display().to_string())
}

fn refused(world: &World, sets: &[&str]) -> String {
    world.refused(&mut world.train_with(sets), 1)
}

#[test]
fn a_model_folder_without_a_component_is_refused_with_its_name() {
    let world = World::new(8);
    let model = own_model(&world);
    for (part, file) in [("vae", None), ("unet", Some("diffusion_pytorch_model.safetensors"))] {
        let whole = world.path("model").join(part);
        let lost = file.map_or(whole.clone(), |f| whole.join(f));
        std::fs::rename(&lost, world.path("aside")).unwrap();
        let said = refused(&world, &[&model]);
        assert!(
            said.contains("DIR/model") && said.contains(file.map_or("component folder vae/", |_| "unet")),
            "{said}"
        );
        assert!(!world.run_dir().exists());
        std::fs::rename(world.path("aside"), &lost).unwrap();
    }
    let said = refused(&world, &["model.path=\"nowhere\""]);
    assert!(
        said.contains("nowhere: there is no such file or folder; give a model folder in the diffusers layout"),
        "{said}"
    );
}

#[test]
fn tensors_of_a_wrong_shape_are_refused_with_the_list() {
    let world = World::new(8);
    let model = own_model(&world);
    let config = world.path("model/unet/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"layers_per_block\": 1", "\"layers_per_block\": 2")).unwrap();
    let said = refused(&world, &[&model]);
    assert!(said.contains("the tensors do not fit config.json") && said.contains("missing ("), "{said}");
    std::fs::write(&config, text.replacen("    16,", "    24,", 1)).unwrap();
    let said = refused(&world, &[&model]);
    assert!(
        said.contains("misshapen (") && said.contains("conv_in.weight: expected [24, 4, 3, 3], found [16, 4, 3, 3]"),
        "{said}"
    );
}

#[test]
fn a_truncated_weight_file_is_refused() {
    let world = World::new(8);
    let model = own_model(&world);
    let file = world.path("model/unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let said = refused(&world, &[&model]);
    assert!(said.contains("DIR/model/unet/diffusion_pytorch_model.safetensors: the file is truncated"), "{said}");
    assert!(said.contains("download or copy the file again"), "{said}");
    assert!(names(&world.run_dir()).iter().all(|n| !n.starts_with("checkpoint") && n != "final"));
}

#[test]
fn a_lora_that_does_not_fit_is_refused() {
    let world = World::new(8);
    let init = format!("lora.init={:?}", support::lora().display().to_string());
    let said = world.refused(&mut world.train_with(&[&init]), 2);
    assert!(said.contains("has rank 4, lora.rank is 2: expected the same. Set lora.rank = 4."), "{said}");
    let said = refused(&world, &["lora.init=\"nowhere.safetensors\""]);
    assert!(said.contains("nowhere.safetensors"), "{said}");
}

#[test]
fn a_row_that_cannot_be_read_is_refused_with_file_and_line() {
    let world = World::new(6);
    let good = std::fs::read_to_string(world.pairs()).unwrap();
    let mut messages = Messages::default();
    for row in [
        "{\"prompt\": \"a\", \"winner\"",
        "{\"prompt\": \"a\", \"winner\": \"w0.png\"}",
        "{\"id\": \"p2\", \"prompt\": \"a\", \"winner\": \"w0.png\", \"loser\": \"l0.png\"}",
    ] {
        std::fs::write(world.pairs(), format!("{good}{row}\n")).unwrap();
        let said = refused(&world, &[]);
        messages.add(row, &said);
        assert!(!world.run_dir().exists());
    }
    insta::assert_snapshot!(messages);
}

const LIST: &str = "{\"prompt\": \"a\", \"images\": [\"w0.png\", \"l0.png\"], \"ranks\": [1, 2]}\n";
const LABEL: &str = "{\"prompt\": \"a\", \"image\": \"w0.png\", \"label\": true}\n";

#[test]
fn rows_of_a_kind_that_the_method_does_not_take_are_refused_with_the_methods_that_do() {
    let world = World::new(6);
    let pairs = std::fs::read_to_string(world.pairs()).unwrap();
    let mut messages = Messages::default();
    for (rows, method) in [(LIST, "dpo"), (LABEL, "dpo"), (&pairs, "rankdpo"), (LABEL, "mpo"), (LIST, "kto")] {
        std::fs::write(world.pairs(), rows).unwrap();
        let said = world.refused(&mut world.train_with(&[&format!("method.name={method}")]), 2);
        messages.add(method, &said);
        assert!(!world.run_dir().exists());
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn a_format_or_labels_that_the_rows_contradict_are_refused() {
    let world = World::new(6);
    let said = world.refused(&mut world.train_with(&["data.format=lists"]), 2);
    assert!(
        said.contains("DIR/run.toml: data.format = \"lists\", and the rows of DIR/data/pairs.jsonl are pairs. Correct data.format, or remove it."),
        "{said}"
    );
    std::fs::write(world.pairs(), LABEL.to_string() + &LABEL.replace("true", "false")).unwrap();
    let sets = ["method.name=kto", "data.labels=score:hps", "validate.fraction=0"];
    let said = world.refused(&mut world.train_with(&sets), 2);
    assert!(
        said.contains("data.labels = \"score:hps\" ranks pairs, and the rows of DIR/data/pairs.jsonl are labelled images. Remove data.labels."),
        "{said}"
    );
    assert!(!world.run_dir().exists());
}

#[test]
fn rows_without_what_the_configuration_asks_of_them_are_refused() {
    let world = World::new(6);
    let good = std::fs::read_to_string(world.pairs()).unwrap();
    let weighted = good.replacen("\"p3\"", "\"p3\", \"weight\": 0", 1);
    let mut messages = Messages::default();
    for (rows, sets) in [
        (good.as_str(), &["data.labels=score:hps"][..]),
        (&good, &["method.name=odpo", "method.scorer=hps"]),
        (&weighted, &["weights.source=videodpo", "validate.fraction=0"]),
        (&format!("{LIST}{}", good.lines().next().unwrap()), &["method.name=rankdpo"]),
        (LABEL, &["method.name=kto", "validate.fraction=0"]),
    ] {
        std::fs::write(world.pairs(), rows).unwrap();
        let said = refused(&world, sets);
        messages.add(&format!("{sets:?}"), &said);
        assert!(!world.run_dir().exists());
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn no_pairs_and_no_file_are_refused() {
    let world = World::new(6);
    let said = refused(&world, &["data.path=\"nowhere.jsonl\""]);
    assert!(
        said.contains("data.path: cannot find nowhere.jsonl; expected a data file or a folder with data"),
        "{said}"
    );
    std::fs::write(world.pairs(), "\n").unwrap();
    let said = refused(&world, &[]);
    assert!(
        said.contains("DIR/data/pairs.jsonl: no pairs; expected rows with prompt, winner and loser, found none"),
        "{said}"
    );
}

/// Spoils four images in the four ways.
fn spoil(world: &World) {
    std::fs::remove_file(world.path("data/w1.png")).unwrap();
    std::fs::write(world.path("data/l2.png"), "this is no picture").unwrap();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * y) as u8, x as u8, y as u8]));
    picture.save(world.path("whole.jpg")).unwrap();
    let bytes = std::fs::read(world.path("whole.jpg")).unwrap();
    std::fs::write(world.path("data/w3.png"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(world.path("data/l4.png"), "").unwrap();
}

const REASONS: [(&str, &str); 4] = [
    ("data/l2.png", "not an image: it is a text file; JPEG, PNG, WebP, BMP, TIFF and GIF can be read"),
    ("data/l4.png", "not an image: the file is empty; JPEG, PNG, WebP, BMP, TIFF and GIF can be read"),
    ("data/w1.png", "the file is missing"),
    ("data/w3.png", "the file is truncated"),
];

#[test]
fn too_many_images_that_cannot_be_read_stop_the_run_with_their_reasons() {
    let world = World::new(12);
    spoil(&world);
    let said = refused(&world, &["validate.fraction=0"]);
    assert!(
        said.contains("4 of 12 items have an image that cannot be used, above data.max_bad_fraction = 0.01"),
        "{said}"
    );
    for (image, reason) in REASONS {
        assert!(said.contains(&format!("DIR/{image}: {reason}")), "{said}");
    }
    assert!(said.contains("restore these images, remove their rows, or raise data.max_bad_fraction"), "{said}");
    // Nothing was trained, so nothing stands in the way of the next try.
    assert_eq!(metrics_lines(&world), 0);
    let said = succeeds(&mut world.train_with(&["validate.fraction=0", "data.max_bad_fraction=0.5"]));
    assert!(said.contains("finished at step 3"), "{said}");
}

#[test]
fn images_left_out_and_captions_that_are_cut_are_said_on_stderr_in_the_plan_and_in_the_report() {
    let world = World::new(12);
    spoil(&world);
    let long = "a red apple on a table beside a window ".repeat(12);
    let pairs = std::fs::read_to_string(world.pairs()).unwrap().replace("a drawing of number 5", &long);
    std::fs::write(world.pairs(), pairs).unwrap();
    let sets = ["validate.fraction=0", "data.max_bad_fraction=0.5", "method.prompt_dropout=0"];
    let cut = "1 prompts are longer than the 14 tokens of the text encoder and are cut";
    let plan = world.train(&[&flags(&sets)[..], &["--dry-run"]].concat()).output().unwrap();
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("1 images missing, 1 prompts cut, 16 px"), "{plan}");
    let said = succeeds(&mut world.train_with(&sets)).replace(&world.path("").display().to_string(), "DIR/");
    let left_out =
        "4 of 12 items are left out, because images cannot be used (DIR/data/l2.png: not an image: it is a text file";
    assert!(
        said.contains(&format!("note: {left_out}")) && said.contains("; and 1 more, all in data-report.json)"),
        "{said}"
    );
    assert!(said.contains(&format!("note: {cut}")), "{said}");
    let report = std::fs::read_to_string(world.run_dir().join("report.html")).unwrap();
    assert!(report.contains("4 of 12 items are left out") && report.contains(cut));
}

#[test]
fn a_field_that_is_null_is_named_as_such() {
    let world = World::new(6);
    let pairs = std::fs::read_to_string(world.pairs()).unwrap().replace("\"a drawing of number 5\"", "null");
    std::fs::write(world.pairs(), pairs).unwrap();
    let said = refused(&world, &[]);
    assert!(said.contains("DIR/data/pairs.jsonl:6: field `prompt` is null; a pair needs"), "{said}");
}

fn metrics_lines(world: &World) -> usize {
    if world.run_dir().join("metrics.jsonl").exists() { metrics(&world.run_dir()).len() } else { 0 }
}

#[test]
fn a_pair_with_an_unreadable_image_keeps_its_position_and_is_left_out_of_the_mean() {
    let world = World::new(12);
    let sets = ["validate.fraction=0", "data.max_bad_fraction=0.5", "method.name=sft", "train.checkpoint_every=1"];
    let whole = world.trained("whole", &sets);
    spoil(&world);
    // sft reads winners only: w1 and w3 are lost to it, l2 and l4 are not.
    let run = world.trained("run", &sets);
    let report = json(&run.join("data-report.json"));
    assert_eq!((&report["items_read"], &report["items_bad"]), (&12.into(), &2.into()));
    assert_eq!(report["bad_images"][0]["items"], serde_json::json!(["p1"]));
    let state = json(&run.join("checkpoint-000003/state.json"));
    assert_eq!(state["unreadable"], serde_json::json!(["p1", "p3"]));
    let (a, b) = (metrics(&whole), metrics(&run));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a["step"], &a["epoch"], &a["lr"]), (&b["step"], &b["epoch"], &b["lr"]));
    }
    // One pass of twelve in three steps: two of them are other than they were, in step 1 by the weights of the mean only.
    let changed = a.iter().zip(&b).filter(|(a, b)| a["loss"] != b["loss"]).count();
    assert!((1..=3).contains(&changed), "{changed}");
    // A resumed run says the same of its data as one that was never stopped.
    let half = world.trained("half", &[&sets[..], &["train.steps=2"]].concat());
    let out = format!("train.out={:?}", half.display().to_string());
    let resume: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--set", &out, "--resume"]).collect();
    succeeds(&mut world.train(&resume));
    assert_eq!(json(&half.join("data-report.json")), report);
    assert_eq!(json(&half.join("checkpoint-000003/state.json")), state);
    assert_eq!(timeless(&half), timeless(&run));
}

#[test]
fn a_step_without_a_readable_pair_is_skipped() {
    let world = World::new(3);
    std::fs::remove_file(world.path("data/w1.png")).unwrap();
    let sets = ["validate.fraction=0", "data.max_bad_fraction=1", "train.micro_batch=1", "train.grad_accum=1"];
    let run = world.trained("run", &sets);
    let lines = metrics(&run);
    let skipped: Vec<bool> = lines.iter().map(|l| l.get("skipped").is_some()).collect();
    assert_eq!(skipped.iter().filter(|s| **s).count(), 1, "{lines:?}");
    let line = &lines[skipped.iter().position(|s| *s).unwrap()];
    assert!(line.get("loss").is_none() && line.get("grad_norm").is_none(), "{line}");
}

#[test]
fn a_loss_that_is_not_finite_stops_before_the_weights_are_touched() {
    let world = World::new(12);
    let said = refused(&world, &["optim.lr=1e30", "optim.weight_decay=0", "train.checkpoint_every=100"]);
    assert!(said.contains("error: step 2: e_theta(w) of pair p"), "{said}");
    assert!(said.contains("at timestep ") && said.contains("the weights were not changed"), "{said}");
    assert!(said.contains("step 1 is checkpointed in DIR/run"), "{said}");
    assert_eq!(metrics(&world.run_dir()).len(), 1);
    assert!(!world.run_dir().join("final").exists());
}

#[test]
fn a_held_out_loss_that_is_not_finite_stops_at_the_checkpoint_before() {
    let world = World::new(12);
    let sets = ["optim.lr=1e30", "optim.weight_decay=0", "validate.every=1", "train.checkpoint_every=1"];
    let said = refused(&world, &sets);
    assert!(said.contains("of the held-out pair p") && said.contains("with the trained model"), "{said}");
    assert!(!said.contains("is checkpointed"), "{said}");
}

#[test]
fn a_full_disk_leaves_the_last_whole_checkpoint_usable() {
    let world = World::new(12);
    let whole = world.trained("whole", &["train.steps=4", "train.checkpoint_every=2"]);
    world.trained("run", &["train.steps=2"]);
    let before = files(&world.run_dir().join("checkpoint-000002"));
    let limit = before_size(&world.run_dir().join("checkpoint-000002/optimizer.safetensors")) / 2;
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
    command.arg("train").arg(world.path("run.toml")).args([
        "--resume",
        "--set",
        "train.steps=4",
        "--set",
        "train.checkpoint_every=1",
    ]);
    command.env("OMP_NUM_THREADS", "1");
    // SAFETY: setrlimit may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limits) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let said = world.refused(&mut assert_cmd::Command::from_std(command), 1);
    assert!(said.contains("cannot write DIR/run/checkpoint-000003; the last whole checkpoint stays usable"), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(files(&world.run_dir().join("checkpoint-000002")), before);
    assert!(names(&world.run_dir()).iter().all(|n| !n.starts_with('.') && n != "checkpoint-000003"));
    succeeds(&mut world.train(&["--resume", "--set", "train.steps=4", "--set", "train.checkpoint_every=2"]));
    assert_eq!(files(&world.run_dir().join("final")), files(&whole.join("final")));
    assert_eq!(timeless(&world.run_dir()), timeless(&whole));
}

fn before_size(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

#[test]
fn a_folder_that_holds_another_run_is_not_written_over() {
    let world = World::new(12);
    let run = world.trained("run", &[]);
    std::fs::write(run.join("notes.txt"), "mine").unwrap();
    let before = files(&run);
    let said = refused(&world, &[]);
    assert!(said.contains("DIR/run: the folder holds another run. Continue it with --resume, set another train.out, or set train.overwrite = true"), "{said}");
    let mut after = files(&run);
    after.insert("run.lock".into(), before["run.lock"].clone());
    assert_eq!(after, before);

    succeeds(&mut world.train_with(&["train.overwrite=true", "train.steps=1"]));
    assert_eq!(metrics(&run).len(), 1);
    assert!(!run.join("checkpoint-000003").exists() && run.join("notes.txt").exists());
}

#[test]
fn a_damaged_cache_record_is_noticed_and_made_anew() {
    let world = World::new(12);
    let first = world.trained("first", &[]);
    let shard = {
        let folder = world.path("cache/latents");
        let vae = folder.join(&names(&folder)[0]);
        vae.join(&names(&vae)[0])
    };
    let mut bytes = std::fs::read(&shard).unwrap();
    let middle = bytes.len() - 1000;
    bytes[middle] ^= 0x10;
    std::fs::write(&shard, bytes).unwrap();
    let out = |name: &str| format!("train.out={:?}", world.path(name).display().to_string());
    let said = succeeds(&mut world.train_with(&[&out("second")]));
    assert!(said.contains("damaged cache record, made again"), "{said}");
    assert!(said.contains("encode 1/1"), "only the damaged one: {said}");
    assert_eq!(files(&world.path("second/final")), files(&first.join("final")));
    let said = succeeds(&mut world.train_with(&[&out("third")]));
    assert!(!said.contains("damaged") && !said.contains("encod"), "the cache is whole again: {said}");
}
