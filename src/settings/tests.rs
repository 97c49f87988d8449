//! [rollout] and [reward]: keys read by methods, refusals, defaults.

use super::changes::{Change, changes};
use super::document::{Place, check_tables};
use super::resolve::Facts;
use super::rollouts::{self, updates_of_iteration};
use super::{Config, Source};
use crate::data::items::ItemKind;
use crate::objectives::{Candidates, Entry, Rollouts, Units, find};
use toml::{Table, Value};

const MODEL: &str = "[model]\npath = \"m\"\n[optim]\nlr = 1.0\n";
const REWARD: &str = "[reward]\nscorers = [{ name = \"style\", path = \"judge\" }]\n";
const ROLLOUT: &str = "[rollout]\nprompts = [\"a\", \"b\"]\n";

fn method(name: &str) -> &'static Entry {
    find(name).unwrap()
}

/// The checked tables and the notes, or the refusal.
fn read(entry: &Entry, text: &str) -> Result<(Table, Vec<String>), String> {
    let place = Place { file: "run.toml", text: Some(text), sets: &[] };
    let (mut table, mut notes) = (text.parse::<Table>().unwrap(), Vec::new());
    let checked = check_tables(&place, &mut table, entry, &mut notes).map_err(|e| e.to_string())?;
    Ok((checked, notes))
}

fn refused(entry: &Entry, text: &str) -> String {
    read(entry, text).unwrap_err()
}

fn facts() -> Facts {
    Facts {
        native_resolution: 512,
        vae_factor: 8,
        prediction_type: pipelines::schedulers::PredictionType::Epsilon,
        family: pipelines::families::family_named("sd1").unwrap(),
        zero_terminal_snr: false,
        most_clip_skip: 0,
        guidance_scale: 7.5,
        kind: ItemKind::Pairs,
        score_range: None,
        timesteps: 1000,
        items: 0,
        sample_prompts: vec!["a".into()],
        prompts: 5,
        cuda: false,
        cores: 2,
        cache_dir: "cache".into(),
        home: None,
    }
}

#[test]
fn what_a_method_samples_by_is_filled_in_and_tables_about_items_are_left_out() {
    let (table, notes) = read(method("dpok"), &format!("{MODEL}{ROLLOUT}{REWARD}")).unwrap();
    assert!(notes.is_empty());
    for unread in ["validate", "timesteps", "safeguard", "weights"] {
        assert!(!table.contains_key(unread), "{unread}");
    }
    let rollout = toml::to_string(&table["rollout"]).unwrap();
    assert_eq!(
        rollout,
        "prompts = [\"a\", \"b\"]\nbuffer = \"memory\"\nbatch = 8\ntrajectories = 4\nsteps = 20\neta = 1.0\nguidance_scale = 5.0\n"
    );
    let scorers = "[{ name = \"style\", weight = 1.0, path = \"judge\" }]";
    assert_eq!(table["reward"]["scorers"].to_string(), scorers);
    assert_eq!(table["reward"]["shaping"].as_str(), Some("none"));
    let data: Vec<&str> = table["data"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(data, ["resolution", "cache_dtype", "workers"]);
}

#[test]
fn a_method_that_samples_needs_prompts_and_scorers() {
    let entry = method("dpok");
    for (tables, expected) in [
        (
            REWARD,
            "run.toml: rollout.prompts is missing: what the method samples pictures of: a list of prompts, or a file of them. Add it under [rollout].",
        ),
        (
            ROLLOUT,
            "run.toml: reward.scorers is missing: who rates the pictures that the method samples. Add it under [reward].",
        ),
        (
            "[rollout]\nprompts = []\n[reward]\nscorers = [{ name = \"style\", path = \"j\" }]\n",
            "run.toml:6: rollout.prompts = []: expected at least one prompt.",
        ),
        (
            "[rollout]\nprompts = [\"a\", \" \"]\n[reward]\nscorers = [{ name = \"style\", path = \"j\" }]\n",
            "run.toml:6: rollout.prompts = [\"a\", \" \"]: expected prompts that are not blank, number 2 is.",
        ),
        (
            "[rollout]\nprompts = \"\"\n[reward]\nscorers = [{ name = \"style\", path = \"j\" }]\n",
            "run.toml:6: rollout.prompts = \"\": expected a list of prompts, or the path of a file of them.",
        ),
    ] {
        assert_eq!(refused(entry, &format!("{MODEL}{tables}")), expected);
    }
}

#[test]
fn a_list_of_scorers_is_refused_with_the_entry_and_the_nearest_name() {
    let entry = method("dpok");
    let form = "expected a list of { name, weight = 1, path }";
    for (scorers, expected) in [
        ("[]", format!("{form}, at least one of them.")),
        ("\"style\"", format!("{form}.")),
        ("[3]", format!("{form}; entry 1 is 3.")),
        ("[{ path = \"j\" }]", format!("{form}; entry 1 has no name.")),
        ("[{ name = \"style\" }]", format!("{form}; entry 1 has no path.")),
        (
            "[{ name = \"compressibility\", path = \"j\" }]",
            format!("{form}; entry 1 has a path, and \"compressibility\" reads no files: remove it."),
        ),
        (
            "[{ name = \"compressibility\" }, { name = \"compressibility\" }]",
            format!("{form}; entry 2 is entry 1 again, remove one of them."),
        ),
        ("[{ name = \"style\", path = \"\" }]", format!("{form}; entry 1 has path = \"\", expected a text.")),
        ("[{ name = 3, path = \"j\" }]", format!("{form}; entry 1 has name = 3, expected a text.")),
        (
            "[{ name = \"style\", path = \"j\" }, { name = \"contnt\", path = \"j\" }]",
            format!(
                "{form}; entry 2 has name = \"contnt\", expected {} (did you mean \"content\"?).",
                crate::scorers::names().iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" | ")
            ),
        ),
        (
            "[{ name = \"style\", pth = \"j\" }]",
            format!("{form}; entry 1 has an unknown key pth (did you mean path?)."),
        ),
        (
            "[{ name = \"style\", path = \"j\", weight = 0 }]",
            format!(
                "{form}; entry 1 has weight = 0, expected a number other than 0 (reward.watch takes what is only reported)."
            ),
        ),
        (
            "[{ name = \"style\", path = \"j\", weight = inf }]",
            format!(
                "{form}; entry 1 has weight = inf, expected a number other than 0 (reward.watch takes what is only reported)."
            ),
        ),
        (
            "[{ name = \"style\", path = \"j\" }, { name = \"style\", path = \"j\", weight = 2 }]",
            format!("{form}; entry 2 is entry 1 again, remove one of them."),
        ),
    ] {
        let said = refused(entry, &format!("{MODEL}{ROLLOUT}[reward]\nscorers = {scorers}\n"));
        assert!(said.starts_with("run.toml:8: reward.scorers = "), "{said}");
        assert!(said.ends_with(&expected), "{said}");
    }
    let watch = "watch = [{ name = \"content\", path = \"j\", weight = 1 }]\n";
    let said = refused(entry, &format!("{MODEL}{ROLLOUT}{REWARD}{watch}"));
    assert!(said.starts_with("run.toml:9: reward.watch = "), "{said}");
    assert!(
        said.ends_with(
            "expected a list of { name, path }; entry 1 has a weight, and watched scorers are only reported: remove it."
        ),
        "{said}"
    );
}

#[test]
fn keys_of_rollout_and_reward_are_refused_like_all_others() {
    let entry = method("dpok");
    for (line, expected) in [
        ("trajctories = 2", "run.toml:7: unknown key rollout.trajctories, did you mean trajectories?"),
        ("eta = 1.5", "run.toml:7: rollout.eta = 1.5: expected a number in [0, 1]."),
        (
            "buffer = \"disc\"",
            "run.toml:7: rollout.buffer = \"disc\": expected \"memory\" | \"disk\" (did you mean \"disk\"?).",
        ),
        (
            "updates_per_iteration = 0",
            "run.toml:7: rollout.updates_per_iteration = 0: expected a whole number in 1..1000000000, or \"auto\".",
        ),
        ("steps = 0", "run.toml:7: rollout.steps = 0: expected a whole number in 1..1000."),
        ("batch = 0", "run.toml:7: rollout.batch = 0: expected a whole number in 1..65536."),
    ] {
        let said = refused(entry, &format!("{MODEL}{ROLLOUT}{line}\n{REWARD}"));
        assert!(said.starts_with(expected), "{said}");
    }
    let said = refused(entry, &format!("{MODEL}{ROLLOUT}{REWARD}shaping = \"pra\"\n"));
    assert!(said.starts_with("run.toml:9: reward.shaping = \"pra\": expected \"none\" | \"standardise\" | \"log_sigmoid\" | \"par\" (did you mean \"par\"?)."), "{said}");
}

#[test]
fn a_method_that_samples_refuses_what_is_about_items_with_the_reason() {
    let entry = method("dpok");
    for (table, expected) in [
        (
            "[data]\npath = \"x\"",
            "run.toml:10: data.path does not go with method.name = \"dpok\", which trains on pictures of its own, sampled from rollout.prompts. Remove the key.",
        ),
        ("[data]\nties = \"drop\"", "run.toml:10: data.ties does not go with"),
        ("[data]\nlabels = \"given\"", "run.toml:10: data.labels does not go with"),
        ("[data]\nflip = 0", "run.toml:10: data.flip does not go with"),
        (
            "[validate]\nevery = 0",
            "run.toml:9: [validate] of method.name = \"dpok\" has no prompts: name in validate.prompts what is sampled and not trained on, or remove the table.",
        ),
        (
            "[validate]\nfraction = 0.1",
            "run.toml:10: validate.fraction does not go with method.name = \"dpok\", which trains on pictures of its own: no item can be held out, but prompts can (validate.prompts). Remove the key.",
        ),
        ("[validate]\nprompts = []", "run.toml:10: validate.prompts = []: expected at least one prompt."),
        ("[validate]\nprompts = [\"a\", \"\"]", "run.toml:10: validate.prompts = [\"a\", \"\"]: expected"),
        (
            "[timesteps]\nmin = 0",
            "run.toml:9: [timesteps] does not go with method.name = \"dpok\", which trains on the timesteps of its trajectories. Remove the table.",
        ),
        ("[safeguard]\nname = \"sdpo\"", "run.toml:9: [safeguard] does not go with"),
        (
            "[weights]\nsource = \"column\"",
            "run.toml:9: [weights] does not go with method.name = \"dpok\", which trains on pictures of its own: no row has a weight.",
        ),
        (
            "[reference]\nkind = \"updated\"",
            "run.toml:10: reference.kind = \"updated\" does not go with method.name = \"dpok\", whose reference is the start model. Remove the key.",
        ),
    ] {
        let said = refused(entry, &format!("{MODEL}{ROLLOUT}{REWARD}{table}\n"));
        assert!(said.starts_with(expected), "{table}: {said}");
    }
}

#[test]
fn trajectories_that_teach_nothing_are_refused() {
    for (name, keys, expected) in [
        (
            "d3po",
            "trajectories = 3",
            "run.toml:7: rollout.trajectories = 3: method.name = \"d3po\" is defined for exactly 2 of a prompt. Remove the key.",
        ),
        (
            "dpok",
            "eta = 0",
            "run.toml:7: rollout.eta = 0 does not go with method.name = \"dpok\", which trains the probabilities of steps: without noise (sigma = 0) a step has none.",
        ),
    ] {
        let said = refused(method(name), &format!("{MODEL}{ROLLOUT}{keys}\n{REWARD}"));
        assert!(said.starts_with(expected), "{said}");
    }
    let shaped = |name| read(method(name), &format!("{MODEL}{ROLLOUT}trajectories = 1\n{REWARD}shaping = \"par\"\n"));
    let said = shaped("dpok").unwrap_err();
    assert!(said.starts_with("run.toml:10: reward.shaping = \"par\" with rollout.trajectories = 1: a picture is compared with the others of its prompt"), "{said}");
    shaped("spo").unwrap();
}

#[test]
fn a_method_of_items_refuses_rollout_and_reward() {
    let entry = method("dpo");
    let data = "[data]\npath = \"x\"\n";
    for (table, name) in [(ROLLOUT, "rollout"), (REWARD, "reward")] {
        assert_eq!(
            refused(entry, &format!("{MODEL}{data}{table}")),
            format!(
                "run.toml:7: [{name}] does not go with method.name = \"dpo\", which trains on the items of [data] and samples nothing while it trains. Remove the table."
            )
        );
    }
    assert!(refused(entry, MODEL).starts_with("run.toml: data.path is missing: "));
    let (table, _) = read(entry, &format!("{MODEL}{data}")).unwrap();
    assert!(!table.contains_key("rollout") && !table.contains_key("reward"));
}

#[test]
fn a_truncated_method_reads_items_or_prompts_by_where_it_starts() {
    let (entry, noise) = (method("self_npo"), "[method]\nstart = \"noise\"\n");
    let (table, _) = read(entry, &format!("{MODEL}[data]\npath = \"x\"\n")).unwrap();
    assert!(table["data"].get("path").is_some() && !table.contains_key("rollout"));
    assert_eq!(
        refused(entry, &format!("{MODEL}{ROLLOUT}[data]\npath = \"x\"\n")),
        "run.toml:5: [rollout] does not go with method.name = \"self_npo\", which reads [data] with method.start = \"data\". Remove the table."
    );
    let given = format!("{MODEL}{ROLLOUT}steps = 7\neta = 0\nguidance_scale = 3\n{noise}");
    let (table, notes) = read(entry, &given).unwrap();
    assert_eq!(toml::to_string(&table["rollout"]).unwrap(), "prompts = [\"a\", \"b\"]\n");
    let note = |key: &str| format!("rollout.{key} of the config is not read by self_npo: dropped");
    assert_eq!(notes, [note("steps"), note("eta"), note("guidance_scale")]);
    for (tables, expected) in [
        (
            format!("{ROLLOUT}trajectories = 2\n"),
            "run.toml:7: rollout.trajectories does not go with method.name = \"self_npo\", whose steps of denoising are method.rollout_steps and method.guidance. Remove the key.",
        ),
        (
            format!("{ROLLOUT}{REWARD}"),
            "run.toml:7: [reward] does not go with method.name = \"self_npo\", which rates no picture. Remove the table.",
        ),
        (
            format!("{ROLLOUT}[data]\npath = \"x\"\n"),
            "run.toml:8: data.path does not go with method.name = \"self_npo\", which reads rollout.prompts with method.start = \"noise\". Remove the key.",
        ),
        (
            format!("{ROLLOUT}[ema]\ndecay = 0.9\n"),
            "run.toml:8: ema.decay = 0.9 does not go with method.name = \"self_npo\", which averages the weights itself: method.ema_decay. Remove the key.",
        ),
        (String::new(), "run.toml: rollout.prompts is missing: "),
    ] {
        let said = refused(entry, &format!("{MODEL}{tables}{noise}"));
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn prompts_of_an_iteration_are_eight_or_all_and_never_more_than_there_are() {
    let mut table: Table = format!("{ROLLOUT}steps = 20").parse().unwrap();
    rollouts::resolve(&mut table, &facts()).unwrap();
    assert_eq!(table["rollout"]["prompts_per_iteration"].as_integer(), Some(5));
    let mut table: Table = ROLLOUT.parse().unwrap();
    rollouts::resolve(&mut table, &Facts { prompts: 9, ..facts() }).unwrap();
    assert_eq!(table["rollout"]["prompts_per_iteration"].as_integer(), Some(8));
    let mut table: Table = format!("{ROLLOUT}prompts_per_iteration = 6").parse().unwrap();
    assert_eq!(
        rollouts::resolve(&mut table, &facts()).unwrap_err(),
        "rollout.prompts_per_iteration = 6: expected at most 5, the prompts of rollout.prompts. Lower it, or give more prompts."
    );
    let mut table: Table = format!("{ROLLOUT}steps = 20").parse().unwrap();
    assert_eq!(
        rollouts::resolve(&mut table, &Facts { timesteps: 10, ..facts() }).unwrap_err(),
        "rollout.steps = 20: expected at most 10, the timesteps of this model."
    );
}

#[test]
fn updates_of_an_iteration_follow_from_what_a_pass_holds() {
    let table = |extra: &str| -> Table {
        format!("[rollout]\nprompts_per_iteration = 3\ntrajectories = 4\nsteps = 5\n{extra}").parse().unwrap()
    };
    const STEPS: Units = Units::Steps { buffer: 16 };
    const CANDIDATES: Units =
        Units::Candidates(Candidates { candidates: 2, threshold: 0.0, skip_steps: 0, denoise_ahead: 0 });
    let of = |units: Option<Units>, extra: &str, per_step| {
        let needs = units.map(|units| Rollouts { units, ..Rollouts::STEPWISE });
        updates_of_iteration(&table(extra), needs.as_ref(), per_step)
    };
    assert_eq!(of(Some(STEPS), "", 8.0), Some(8.0)); // ceil(3 x 4 x 5 / 8)
    assert_eq!(of(Some(Units::Trajectories), "", 8.0), Some(2.0)); // ceil(3 x 5 / 8)
    assert_eq!(of(None, "", 2.0), Some(2.0)); // ceil(3 / 2)
    assert_eq!(of(Some(CANDIDATES), "", 8.0), None);
    assert_eq!(of(Some(CANDIDATES), "updates_per_iteration = 7", 8.0), Some(7.0));
}

#[test]
fn lists_are_drawn_4000_times_from_an_iteration_unless_the_file_says_otherwise() {
    let entry = method("dense-reward");
    let updates = |line: &str| {
        let (table, _) = read(entry, &format!("{MODEL}{ROLLOUT}{line}\n{REWARD}")).unwrap();
        table["rollout"].get("updates_per_iteration").cloned()
    };
    assert_eq!(updates(""), Some(Value::Integer(4000)));
    assert_eq!(updates("updates_per_iteration = \"auto\""), Some(Value::Integer(4000)));
    assert_eq!(updates("updates_per_iteration = 3"), Some(Value::Integer(3)));
}

#[test]
fn on_resume_contents_may_move_and_nothing_else_of_prompts_and_scorers_may_change() {
    let old: Table = format!("[method]\nname = \"dpo\"\n{ROLLOUT}batch = 8\nbuffer = \"disk\"\neta = 1.0\n[reward]\nscorers = [{{ name = \"style\", weight = 1.0, path = \"a\" }}]\nwatch = [{{ name = \"content\", path = \"a\" }}]\nshaping = \"none\"\n").parse().unwrap();
    let change = |from: &str, to: &str, same: bool| {
        let new: Table = toml::to_string(&old).unwrap().replace(from, to).parse().unwrap();
        assert_ne!(new, old, "{from}");
        let mut found = changes(&old, &new, &|_| same);
        assert_eq!(found.len(), 1);
        found.remove(0)
    };
    let moved = ("path = \"a\"\n\n[[reward.watch]]", "path = \"b\"\n\n[[reward.watch]]");
    assert_eq!(change(moved.0, moved.1, true), Change::Harmless);
    assert!(matches!(change(moved.0, moved.1, false), Change::Refused(text) if text.starts_with("reward.scorers: ")));
    assert!(matches!(change("weight = 1.0", "weight = 2.0", true), Change::Refused(_)));
    assert!(matches!(change("\"content\"", "\"style\"", true), Change::Refused(_)));
    assert_eq!(change("[\"a\", \"b\"]", "\"prompts.txt\"", true), Change::Harmless);
    assert!(matches!(change("[\"a\", \"b\"]", "[\"a\"]", false), Change::Refused(_)));
    assert!(matches!(change("batch = 8", "batch = 4", false), Change::Rounding(_)));
    assert!(matches!(change("\"disk\"", "\"memory\"", false), Change::Rounding(_)));
    assert!(matches!(change("eta = 1.0", "eta = 0.5", true), Change::Refused(_)));
    assert!(matches!(change("\"none\"", "\"par\"", true), Change::Refused(_)));
}

#[test]
fn a_resolved_configuration_without_items_is_read_back() {
    let entry = method("dpok");
    let (table, _) = read(entry, &format!("{MODEL}[train]\nsteps = 2\n{ROLLOUT}{REWARD}")).unwrap();
    let document = super::Document { file: "run.toml".into(), table, notes: Vec::new() };
    let (table, config): (Table, Config) = super::resolve(&document, &facts()).unwrap();
    assert!(!table.contains_key("validate") && !table.contains_key("timesteps"));
    assert_eq!((config.validate.every, config.validate.fraction), (0, 0.0));
    assert_eq!((config.data.crop, config.data.ties), (super::Crop::Center, crate::data::items::Ties::Drop));
    let rollout = config.rollout.unwrap();
    assert_eq!((rollout.prompts_per_iteration, rollout.trajectories, rollout.steps), (5, 4, 20));
    assert_eq!(rollout.updates_per_iteration, None);
    assert_eq!(config.reward.unwrap().scorers[0].weight, 1.0);
    assert_eq!(Source::of(&entry.needs()), Source::Rollouts);
}

#[test]
fn a_model_with_fewer_timesteps_than_levels_to_start_from_is_refused() {
    let mut table: Table = "[method]\nname = \"self_npo\"".parse().unwrap();
    rollouts::resolve(&mut table, &Facts { timesteps: 25, ..facts() }).unwrap();
    assert_eq!(
        rollouts::resolve(&mut table, &Facts { timesteps: 24, ..facts() }).unwrap_err(),
        "method.name = \"self_npo\" starts from one of 25 levels of noise, and this model has 24 timesteps. Take a model with 25 or more, or another method."
    );
}
