//! A configuration that is wrong is refused with exit code 2, file, line, key, what was expected and what was found,
//! before anything is written.

mod support;

use support::{World, files};

/// stderr of a run with one override, refused with exit code 2; nothing was written.
fn refused(world: &World, set: &str) -> String {
    let said = world.refused(&mut world.train_with(&[set]), 2);
    assert!(!world.run_dir().exists(), "{set} left a run folder");
    said
}

fn rewritten(world: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(world.path("run.toml")).unwrap();
    assert!(text.contains(from));
    std::fs::write(world.path("run.toml"), text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_misspelt_key_is_refused_with_line_and_nearest_name() {
    let world = World::new(8);
    rewritten(&world, "micro_batch", "micro_bach");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(
        said.contains("DIR/run.toml:23: unknown key train.micro_bach, did you mean micro_batch? Keys of [train]:"),
        "{said}"
    );
}

#[test]
fn a_misspelt_table_is_refused_with_line_and_nearest_name() {
    let world = World::new(8);
    rewritten(&world, "[optim]", "[optm]");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml:18: unknown table [optm], did you mean optim?"), "{said}");
}

#[test]
fn a_missing_key_is_named_with_its_meaning() {
    let world = World::new(8);
    for (line, expected) in [
        (
            "lr = 1e-2\n",
            "DIR/run.toml: optim.lr is missing: learning rate, as the optimizer sees it. Add it under [optim].",
        ),
        ("steps = 3\n", "DIR/run.toml: train.steps is missing: optimizer steps. Add it (or epochs) under [train]."),
    ] {
        let world2 = World::new(8);
        rewritten(&world2, line, "");
        let said = world2.refused(&mut world2.train(&[]), 2);
        assert!(said.contains(expected), "{said}");
    }
    rewritten(&world, "[model]\npath", "[model]\nunet");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml: model.path is missing"), "{said}");
}

#[test]
fn values_out_of_range_name_the_key_and_the_range() {
    let world = World::new(8);
    for (set, expected) in [
        ("optim.lr=-1e-4", "--set optim.lr: optim.lr = -0.0001: expected a number above 0."),
        ("optim.lr=0", "optim.lr = 0: expected a number above 0."),
        ("optim.lr=nan", "optim.lr = nan: expected a number above 0."),
        ("optim.lr=fast", "optim.lr = \"fast\": expected a number above 0."),
        ("optim.betas=[0.9, 1]", "optim.betas = [0.9, 1]: expected two numbers, each a number in [0, 1)."),
        ("ema.decay=1", "ema.decay = 1: expected a number in [0, 1)."),
        ("data.flip=1.5", "data.flip = 1.5: expected a number in [0, 1]."),
        ("data.crops=1", "data.crops = 1: expected a whole number in 2..1024."),
        ("train.steps=0", "train.steps = 0: expected a whole number in 1..1000000000."),
        ("train.steps=2.5", "train.steps = 2.5: expected a whole number in 1..1000000000."),
        ("train.micro_batch=0", "train.micro_batch = 0: expected a whole number in 1..65536."),
        ("train.seed=-1", "train.seed = -1: expected a whole number of at least 0."),
        ("method.beta=0", "method.beta = 0: expected a number above 0, or \"auto\"."),
        ("method.name=dop", "method.name = \"dop\" is not a method, did you mean dpo? Methods: dpo, sft, "),
        (
            "method.name=balancd",
            "method.name = \"balancd\" is not a method, did you mean balanced? Methods: dpo, sft, ",
        ),
        (
            "method.name=timestep-aware",
            "method.name = \"timestep-aware\" is no method of its own: set method.name = \"dpo\" with timesteps.law = \"discounted\",",
        ),
        (
            "data.labels=human",
            "data.labels = \"human\": expected \"given\", \"score:NAME\", or \"vote:A,B,..\" of at least two scorers.",
        ),
        ("data.labels=vote:a,a", "data.labels = \"vote:a,a\": expected \"given\", "),
        ("data.ties=kept", "data.ties = \"kept\": expected \"drop\" | \"keep\" | \"error\" (did you mean \"keep\"?)."),
        (
            "timesteps.law=discuonted",
            "expected \"uniform\" | \"discounted\" | \"list\" (did you mean \"discounted\"?).",
        ),
        ("timesteps.min=-1", "timesteps.min = -1: expected a whole number of at least 0."),
        ("safeguard.name=sdop", "safeguard.name = \"sdop\": expected \"none\" | \"sdpo\" (did you mean \"sdpo\"?)."),
        ("weights.source=video", "weights.source = \"video\": expected \"none\" | \"column\" | \"videodpo\"."),
        ("reference.every=0", "reference.every = 0: expected a whole number of at least 1."),
        ("lora.rank=-1", "lora.rank = -1: expected a whole number in 0..8192."),
        ("model.device=tpu", "model.device = \"tpu\": expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"."),
        (
            "model.dtype=float16",
            "model.dtype = \"float16\": expected \"float32\" | \"bfloat16\" | \"float64\", or \"auto\" (did you mean \"bfloat16\"?).",
        ),
        ("validate.fraction=1", "validate.fraction = 1: expected a number in [0, 1)."),
        ("sample.seeds=[-1]", "sample.seeds = [-1]: expected a list, each a whole number of at least 0."),
        ("train=3", "--set train=3: expected TABLE.KEY=VALUE"),
    ] {
        let said = refused(&world, set);
        assert!(said.contains(expected), "{set}: {said}");
    }
}

#[test]
fn values_that_do_not_fit_together_are_refused_with_the_reason() {
    let world = World::new(8);
    for (sets, expected) in [
        (
            &["data.resolution=17"][..],
            "data.resolution = 17: expected a multiple of 2, the factor of this model's VAE. Take 16 or 18.",
        ),
        (&["train.epochs=2"], "train.steps and train.epochs are both given: expected one of them."),
        (&["train.pairs_per_step=8"], "train.grad_accum and train.pairs_per_step are both given"),
        (
            &["method.name=sft", "reference.kind=frozen"],
            "--set reference.kind: [reference] does not go with method.name = \"sft\", which compares with no reference. Remove the table.",
        ),
        (
            &["lora.rank=0", "lora.init=x.safetensors"],
            "lora.init = \"x.safetensors\" with lora.rank = 0: expected the rank of that LoRA.",
        ),
        (&["lora.targets=[\"to_z\"]"], "[lora]: the LoRA target \"to_z\" matches no layer of the UNet; there are:"),
        (&["model.clip_skip=9"], "model.clip_skip = 9: expected 0 to 2 for this model's text encoders."),
        (
            &["sample.every=1", "sample.steps=1000"],
            "sample.scheduler = \"ddim\", sample.steps = 1000: 1000 sampling steps with leading spacing",
        ),
        (
            &["model.zero_terminal_snr=true"],
            "model.prediction_type and model.zero_terminal_snr: epsilon prediction with zero",
        ),
        (&["sample.every=1", "sample.prompts=nowhere.txt"], "sample.prompts = \"nowhere.txt\": cannot read the file"),
    ] {
        let said = world.refused(
            &mut world.train(&sets.iter().flat_map(|s| ["--set", s]).chain(["--dry-run"]).collect::<Vec<_>>()),
            2,
        );
        assert!(said.contains(expected), "{sets:?}: {said}");
        assert!(!world.run_dir().exists(), "{sets:?}");
    }
}

/// stderr of a dry run with these overrides, refused with exit code 2; nothing was written.
fn refused_together(world: &World, sets: &[&str]) -> String {
    let arguments: Vec<&str> = sets.iter().flat_map(|s| ["--set", s]).chain(["--dry-run"]).collect();
    let said = world.refused(&mut world.train(&arguments), 2);
    assert!(!world.run_dir().exists(), "{sets:?}");
    said
}

#[test]
fn plug_ins_that_do_not_suit_the_method_are_refused_with_the_reason() {
    let world = World::new(8);
    for (sets, expected) in [
        (
            &["data.ties=keep"][..],
            "--set data.ties: data.ties = \"keep\" does not go with method.name = \"dpo\", which has no model of ties and would train them as wins. Take method.name = \"todo\", or data.ties = \"drop\".",
        ),
        (
            &["method.name=rankdpo", "data.labels=score:a"],
            "data.labels = \"score:a\" does not go with method.name = \"rankdpo\": lists are ranked by all their scores. Remove the key.",
        ),
        (
            &["method.name=sft", "timesteps.weighting=timestep_aware"],
            "timesteps.weighting = \"timestep_aware\" does not go with method.name = \"sft\": lambda(t) multiplies a logit, and sft has none of a reference. Set it to \"none\".",
        ),
        (
            &["method.name=sft", "safeguard.name=sdpo"],
            "safeguard.name = \"sdpo\" does not go with method.name = \"sft\": no loser is trained. Remove [safeguard].",
        ),
        (
            &["method.name=kto", "safeguard.name=sdpo"],
            "safeguard.name = \"sdpo\" does not go with method.name = \"kto\": it trains on labelled images, which have no loser.",
        ),
        (
            &["method.name=mapo", "reference.kind=updated"],
            "--set reference.kind: [reference] does not go with method.name = \"mapo\", which compares with no reference.",
        ),
        (
            &["method.name=rankdpo", "weights.source=column"],
            "weights.source = \"column\" does not go with method.name = \"rankdpo\": it reads `weight` of pairs, and the method trains on lists. Remove the key.",
        ),
        (
            &["weights.as_published=true"],
            "weights.as_published = true does not go with method.name = \"dpo\" and weights.source = \"none\": there are no weights.",
        ),
    ] {
        let said = refused_together(&world, sets);
        assert!(said.contains(expected), "{sets:?}: {said}");
    }
}

#[test]
fn keys_that_mean_nothing_beside_the_others_are_refused() {
    let world = World::new(8);
    for (sets, expected) in [
        (
            &["timesteps.gamma=0.8"][..],
            "--set timesteps.gamma: timesteps.gamma does not go with timesteps.law = \"uniform\", only with \"discounted\". Remove one of them.",
        ),
        (
            &["timesteps.law=list", "timesteps.values=[1]", "timesteps.min=0"],
            "timesteps.min does not go with timesteps.law = \"list\", whose values say it all. Remove the key.",
        ),
        (
            &["timesteps.values=[1]"],
            "timesteps.values does not go with timesteps.law = \"uniform\", only with \"list\".",
        ),
        (
            &["reference.every=4"],
            "reference.every does not go with a frozen reference. Set reference.kind = \"updated\", or remove the key.",
        ),
        (
            &["safeguard.mu=0.5"],
            "safeguard.mu does not go with safeguard.name = \"none\", only with \"sdpo\". Remove the key.",
        ),
        (
            &["weights.source=column", "weights.c=1"],
            "weights.c does not go with weights.source = \"column\", only with \"videodpo\". Remove the key.",
        ),
    ] {
        let said = refused_together(&world, sets);
        assert!(said.contains(expected), "{sets:?}: {said}");
    }
}

#[test]
fn timesteps_that_the_model_does_not_have_are_refused() {
    let world = World::new(8);
    for (sets, expected) in [
        (
            &["timesteps.max=1000"][..],
            "DIR/run.toml: timesteps.max = 1000: expected at most 999, the last timestep of this model.",
        ),
        (
            &["timesteps.min=500", "timesteps.max=400"],
            "timesteps.min = 500, timesteps.max = 400: expected min to be at most max.",
        ),
        (&["timesteps.min=1000"], "timesteps.min = 1000, timesteps.max = 999: expected min to be at most max."),
        (
            &["timesteps.law=list"],
            "timesteps.law = \"list\" without timesteps.values: expected a list of timesteps. Add it.",
        ),
        (&["timesteps.law=list", "timesteps.values=[]"], "timesteps.values = []: expected at least one timestep."),
        (
            &["timesteps.law=list", "timesteps.values=[5, 1000]"],
            "timesteps.values: 1000 is outside of this model's timesteps, 0 to 999.",
        ),
        (&["timesteps.law=discounted", "timesteps.gamma=0"], "timesteps.gamma = 0: expected a number in (0, 1]."),
        (
            &["timesteps.law=discounted", "timesteps.n_bins=0"],
            "timesteps.n_bins = 0: expected a whole number in 1..1000.",
        ),
    ] {
        let said = refused_together(&world, sets);
        assert!(said.contains(expected), "{sets:?}: {said}");
    }
}

/// Every pair with scores of two scorers; "flat" gives every image the same.
fn scored(world: &World, n: usize) {
    let row = |i: usize| {
        let scores = serde_json::json!({"hps": [0.2 + 0.01 * i as f64, 0.3], "flat": [1, 1]});
        let (winner, loser) = (format!("w{i}.png"), format!("l{i}.png"));
        format!(
            "{}\n",
            serde_json::json!({"id": i, "prompt": format!("p {i}"), "winner": winner, "loser": loser, "scores": scores})
        )
    };
    std::fs::write(world.pairs(), (0..n).map(row).collect::<String>()).unwrap();
}

#[test]
fn scorers_and_their_ranges_are_checked_together_with_the_labels() {
    let world = World::new(8);
    scored(&world, 8);
    for (sets, expected) in [
        (
            &["method.name=mappo"][..],
            "method.name = \"mappo\" reads scores: method.scorer is missing. Name a scorer of the rows' `scores`.",
        ),
        (
            &["method.name=smpo"],
            "method.name = \"smpo\" trains on pairs that a scorer has ranked: expected data.labels = \"score:NAME\", found \"given\".",
        ),
        (
            &["method.name=smpo", "data.labels=vote:hps,flat"],
            "expected data.labels = \"score:NAME\", found \"vote:hps,flat\".",
        ),
        (
            &["method.name=smpo", "data.labels=score:hps", "method.scorer=flat"],
            "method.scorer = \"flat\" with data.labels = \"score:hps\": expected the scorer that ranked the pairs. Remove method.scorer.",
        ),
        (
            &["method.name=mappo", "method.scorer=hps", "method.score_range=[0.5, 0.5]"],
            "method.score_range = [0.5, 0.5]: expected the lowest score below the highest.",
        ),
        (
            &["method.name=mappo", "method.scorer=flat"],
            "method.score_range = \"auto\": expected scores of \"flat\" that differ, all are 1. Give [lowest, highest], or take another scorer.",
        ),
        (&["method.scorer=hps"], "unknown key method.scorer"),
    ] {
        let said = refused_together(&world, sets);
        assert!(said.contains(expected), "{sets:?}: {said}");
    }
}

/// `resolved.toml` of a run with these overrides.
fn resolved(world: &World, name: &str, sets: &[&str]) -> toml::Table {
    let run = world.trained(name, sets);
    std::fs::read_to_string(run.join("resolved.toml")).unwrap().parse().unwrap()
}

fn table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

#[test]
fn resolved_toml_has_the_plug_ins_that_apply_and_only_their_keys() {
    let world = World::new(12);
    scored(&world, 12);
    let plain = resolved(&world, "plain", &["train.steps=1"]);
    assert_eq!(plain["timesteps"], table("law = \"uniform\"\nmin = 0\nmax = 999\nweighting = \"none\"").into());
    let reference = table("kind = \"frozen\"\nledger = \"auto\"\nplacement = \"device\"");
    assert_eq!(plain["reference"], reference.into());
    assert!(plain.get("safeguard").is_none());
    assert_eq!(plain["weights"], table("source = \"none\"\nas_published = false").into());

    let full = resolved(
        &world,
        "full",
        &[
            "train.steps=1",
            "timesteps.law=discounted",
            "timesteps.weighting=timestep_aware",
            "reference.kind=updated",
            "safeguard.name=sdpo",
            "weights.source=videodpo",
        ],
    );
    let discounted =
        "law = \"discounted\"\ngamma = 0.9\nn_bins = 50\nmin = 0\nmax = 999\nweighting = \"timestep_aware\"";
    assert_eq!(full["timesteps"], table(discounted).into());
    let updated = "kind = \"updated\"\nevery = 32\ndivergence_limit = 0.005\ndivergence_ema = 0.9\nledger = \"auto\"\nplacement = \"device\"";
    assert_eq!(full["reference"], table(updated).into());
    assert_eq!(full["safeguard"], table("name = \"sdpo\"\nmu = 0.9").into());
    assert_eq!(full["weights"], table("source = \"videodpo\"\nb = 1.0\nc = 0.72\nas_published = false").into());

    let sft = resolved(&world, "sft", &["train.steps=1", "method.name=sft"]);
    assert!(sft.get("reference").is_none() && sft.get("safeguard").is_none());
    let kto = resolved(&world, "kto", &["train.steps=1", "method.name=kto", "validate.fraction=0"]);
    assert!(kto.get("safeguard").is_none());
    assert_eq!(kto["data"]["format"].as_str(), Some("pairs"));
    let dspo = resolved(&world, "dspo", &["train.steps=1", "method.name=dspo_sq", "safeguard.name=sdpo"]);
    assert_eq!(dspo["safeguard"]["mu"].as_float(), Some(0.2));
}

#[test]
fn resolved_toml_has_scorer_range_alias_and_defaults_of_the_family() {
    let world = World::new(12);
    scored(&world, 12);
    let smpo = resolved(
        &world,
        "smpo",
        &["train.steps=1", "method.name=smpo", "data.labels=score:hps", "validate.fraction=0"],
    );
    let method = &smpo["method"];
    assert_eq!((method["scorer"].as_str(), method["name"].as_str()), (Some("hps"), Some("smpo")));
    let range: Vec<f64> = method["score_range"].as_array().unwrap().iter().filter_map(toml::Value::as_float).collect();
    assert_eq!(range, [0.2, 0.31]);
    let text = std::fs::read_to_string(world.path("run.toml"))
        .unwrap()
        .replace("name = \"dpo\"\nbeta = 500", "name = \"exo\"");
    std::fs::write(world.path("run.toml"), text).unwrap();
    let exo = resolved(&world, "exo", &["train.steps=1"]);
    assert_eq!((exo["method"]["name"].as_str(), exo["method"]["beta"].as_float()), (Some("dmpo"), Some(2000.0)));
    assert_eq!(exo["method"].as_table().unwrap().keys().take(2).collect::<Vec<_>>(), ["name", "beta"]);
}

#[test]
fn the_configuration_of_a_run_with_plug_ins_reproduces_it() {
    let world = World::new(12);
    scored(&world, 12);
    let sets = [
        "method.name=smpo",
        "data.labels=score:hps",
        "timesteps.law=list",
        "timesteps.values=[249, 499]",
        "safeguard.name=sdpo",
        "weights.source=column",
    ];
    let first = world.trained("run", &sets);
    std::fs::copy(first.join("resolved.toml"), world.path("run.toml")).unwrap();
    let second = world.trained("again", &[]);
    assert_eq!(files(&first.join("final")), files(&second.join("final")));
}

#[test]
fn the_number_of_steps_may_not_change_on_resume_where_a_ramp_reads_it() {
    let world = World::new(12);
    let resume = |sets: &[&str]| {
        let sets: Vec<&str> =
            sets.iter().flat_map(|s| ["--set", s]).chain(["--resume", "--set", "train.steps=4"]).collect();
        world.train(&sets)
    };
    let ramp = ["method.name=dpo_shift", "method.lam_end=1"];
    world.trained("run", &ramp);
    let said = world.refused(&mut resume(&ramp), 2);
    assert!(said.contains("train.steps: the run has 3, the config says 4"), "{said}");
    std::fs::remove_dir_all(world.run_dir()).unwrap();
    world.trained("run", &ramp[..1]);
    support::succeeds(&mut resume(&ramp[..1]));
    let laws = ["method.name=dpo_shift", "timesteps.max=500"];
    let said = world.refused(&mut resume(&laws), 2);
    assert!(said.contains("timesteps.max: the run has 999, the config says 500"), "{said}");
}

#[test]
fn a_cuda_device_that_is_not_there_is_refused_with_the_way_on() {
    if tch::Cuda::is_available() {
        return;
    }
    let world = World::new(8);
    let said = world.refused(&mut world.train(&["--dry-run", "--set", "model.device=cuda"]), 2);
    assert!(
        said.contains(
            "model.device = \"cuda\": no CUDA device was found. `diffpref doctor` says what is there; take \"cpu\"."
        ),
        "{said}"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let world = World::new(8);
    for set in [
        "optim.name=adamw8bit",
        "train.pair_split=on",
        "reference.ledger=on",
        "reference.placement=cpu",
        "reference.path=models/other",
        "data.format=webdataset",
        "rollout.trajectories=4",
        "reward.shaping=par",
        "method.name=spo",
    ] {
        let said = refused(&world, set);
        let (key, _) = set.split_once('=').unwrap();
        assert!(said.contains("not built yet"), "{set}: {said}");
        let table = key.split('.').next().unwrap();
        assert!(said.contains(&format!("--set {key}")) || said.contains(&format!("[{table}]")), "{set}: {said}");
    }
}

#[test]
fn an_override_of_the_method_drops_the_keys_it_does_not_have_and_says_so() {
    let world = World::new(8);
    let said = support::succeeds(&mut world.train_with(&["method.name=sft"]));
    assert!(said.contains("method.beta of the config does not apply to sft: dropped"), "{said}");
    let said = world.refused(&mut world.train_with(&["method.name=sft", "method.beta=3"]), 2);
    assert!(said.contains("--set method.beta: unknown key method.beta"), "{said}");
}

#[test]
fn text_that_is_not_toml_and_a_missing_file_are_refused() {
    let world = World::new(8);
    let said = world.refused(support::diffpref().arg("train").arg(world.path("none.toml")), 2);
    assert!(
        said.contains("DIR/none.toml: cannot read the config") && said.contains("Give the path of a TOML file."),
        "{said}"
    );
    rewritten(&world, "lr = 1e-2", "lr = = 1");
    let said = world.refused(&mut world.train(&[]), 2);
    assert!(said.contains("DIR/run.toml: not TOML: TOML parse error at line 19"), "{said}");
}

#[test]
fn resolved_toml_reproduces_the_run_and_has_every_default() {
    let world = World::new(12);
    let first = world.trained("run", &["method.beta=\"auto\"", "optim.lr=1e-3"]);
    let resolved = std::fs::read_to_string(first.join("resolved.toml")).unwrap();
    for line in [
        "beta = \"auto\"",
        "weight_decay = 0.01",
        "prompt_dropout = 0.2",
        "alpha = 2.0",
        "format = \"pairs\"",
        "device = \"cpu\"",
        "dtype = \"float32\"",
        "guidance_scale = 7.5",
    ] {
        assert!(resolved.lines().any(|l| l == line), "{line} is not in\n{resolved}");
    }
    std::fs::write(world.path("run.toml"), &resolved).unwrap();
    let second = world.trained("again", &[]);
    assert_eq!(files(&first.join("final")), files(&second.join("final")));
    let moved = |text: &str| text.replace("/again\"", "/run\"");
    assert_eq!(moved(&std::fs::read_to_string(second.join("resolved.toml")).unwrap()), resolved);
}

#[test]
fn epochs_become_steps_rounded_up() {
    let world = World::new(13);
    let text = std::fs::read_to_string(world.path("run.toml")).unwrap().replace("steps = 3", "epochs = 1.5");
    std::fs::write(world.path("run.toml"), text).unwrap();
    let run = world.trained("run", &["validate.fraction=0"]);
    // 1.5 x 13 / 4 = 4.9
    assert_eq!(support::metrics(&run).len(), 5);
    assert!(std::fs::read_to_string(run.join("resolved.toml")).unwrap().contains("steps = 5\n"));
    let said = world.refused(&mut world.train_with(&["train.epochs=1e300"]), 2);
    assert!(said.contains("train.epochs = 1000"), "{said}");
}
