//! [rollout] and [reward]: keys read by methods, refusals, defaults.

use super::changes::{Change, changes};
use super::document::check_tables;
use super::facts::Facts;
use super::place::Place;
use super::tables::rollout::{RolloutConfig, Trajectories};
use super::{Parsed, Settings, Source};
use crate::data::items::Format;
use crate::objectives::{Candidates, Entry, Units, find};

const MODEL: &str = "[model]\npath = \"m\"\n[optim]\nlr = 1.0\n";
const REWARD: &str = "[reward]\nscorers = [{ name = \"style\", path = \"judge\" }]\n";
const ROLLOUT: &str = "[rollout]\nprompts = [\"a\", \"b\"]\n";

fn method(name: &str) -> &'static Entry {
    find(name).unwrap()
}

/// The configuration as written, or the refusal.
fn read(entry: &'static Entry, text: &str) -> Result<Parsed, String> {
    let place = Place { file: "run.toml", text: Some(text), sets: &[] };
    check_tables(&place, text.parse().unwrap(), entry, Vec::new()).map_err(|e| e.to_string())
}

/// The run that follows from it.
fn resolved(entry: &'static Entry, text: &str, facts: &Facts) -> Result<Settings, String> {
    read(
        entry,
        &format!(
            "{text}[train]
steps = 2
"
        ),
    )?
    .resolve(facts)
    .map_err(|e| e.to_string())
}

fn written(settings: &Settings, table: &str) -> String {
    toml::to_string(&settings.table().unwrap()[table]).unwrap()
}

fn refused(entry: &'static Entry, text: &str) -> String {
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
        format: Format::Pairs,
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
    let run = resolved(method("dpok"), &format!("{MODEL}{ROLLOUT}{REWARD}"), &facts()).unwrap();
    let table = run.table().unwrap();
    for unread in ["validate", "timesteps", "safeguard", "weights"] {
        assert!(!table.contains_key(unread), "{unread}");
    }
    assert_eq!(
        written(&run, "rollout"),
        "prompts = [\"a\", \"b\"]\nprompts_per_iteration = 5\ntrajectories = 4\nsteps = 20\neta = 1.0\nguidance_scale = 5.0\nbuffer = \"memory\"\nbatch = 8\n"
    );
    let scorers = "[{ name = \"style\", path = \"judge\", weight = 1.0 }]";
    assert_eq!(table["reward"]["scorers"].to_string(), scorers);
    assert_eq!(table["reward"]["shaping"].as_str(), Some("none"));
    let data: Vec<&str> = table["data"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(data, ["resolution", "cache_dir", "cache_dtype", "workers"]);
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
    let form = "expected a list of { name, weight = 1, measure, path }";
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
            "expected a list of { name, measure, path }; entry 1 has a weight, and watched scorers are only reported: remove it."
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
    let parsed = read(entry, &format!("{MODEL}{data}")).unwrap();
    assert!(parsed.rollout.is_none() && parsed.reward.is_none());
}

#[test]
fn a_truncated_method_reads_items_or_prompts_by_where_it_starts() {
    let (entry, noise) = (method("self_npo"), "[method]\nstart = \"noise\"\n");
    let parsed = read(entry, &format!("{MODEL}[data]\npath = \"x\"\n")).unwrap();
    assert!(parsed.items.is_some() && parsed.starts.is_none());
    assert_eq!(
        refused(entry, &format!("{MODEL}{ROLLOUT}[data]\npath = \"x\"\n")),
        "run.toml:5: [rollout] does not go with method.name = \"self_npo\", which reads [data] with method.start = \"data\". Remove the table."
    );
    let given = format!("{MODEL}{ROLLOUT}steps = 7\neta = 0\nguidance_scale = 3\n{noise}");
    let run = resolved(entry, &given, &facts()).unwrap();
    assert_eq!(written(&run, "rollout"), "prompts = [\"a\", \"b\"]\nprompts_per_iteration = 5\n");
    let notes = read(entry, &given).unwrap().notes;
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
    let of = |line: &str, facts: &Facts| {
        let run = resolved(method("dpok"), &format!("{MODEL}{ROLLOUT}{line}\n{REWARD}"), facts)?;
        Ok::<_, String>(run.rollout.unwrap().prompts_per_iteration)
    };
    assert_eq!(of("", &facts()), Ok(5));
    assert_eq!(of("", &Facts { prompts: 9, ..facts() }), Ok(8));
    assert_eq!(
        of("prompts_per_iteration = 6", &facts()).unwrap_err(),
        "run.toml: rollout.prompts_per_iteration = 6: expected at most 5, the prompts of rollout.prompts. Lower it, or give more prompts."
    );
    assert_eq!(
        of("", &Facts { timesteps: 10, ..facts() }).unwrap_err(),
        "run.toml: rollout.steps = 20: expected at most 10, the timesteps of this model."
    );
}

#[test]
fn updates_of_an_iteration_follow_from_what_a_pass_holds() {
    let sampled = |updates_per_iteration| Trajectories {
        trajectories: 4,
        steps: 5,
        eta: 1.0,
        guidance_scale: 1.0,
        shared_noise: None,
        updates_per_iteration,
        buffer: super::Buffer::Memory,
        batch: 8,
    };
    const STEPS: Units = Units::Steps { buffer: 16 };
    const CANDIDATES: Units =
        Units::Candidates(Candidates { candidates: 2, threshold: 0.0, skip_steps: 0, denoise_ahead: 0 });
    let of = |units: Option<Units>, updates, per_step| {
        let (prompts, sampled) = (super::Prompts::List(Vec::new()), units.map(|_| sampled(updates)));
        RolloutConfig { prompts, prompts_per_iteration: 3, sampled }.updates(units, per_step)
    };
    assert_eq!(of(Some(STEPS), None, 8.0), Some(8.0)); // ceil(3 x 4 x 5 / 8)
    assert_eq!(of(Some(Units::Trajectories), None, 8.0), Some(2.0)); // ceil(3 x 5 / 8)
    assert_eq!(of(None, None, 2.0), Some(2.0)); // ceil(3 / 2)
    assert_eq!(of(Some(CANDIDATES), None, 8.0), None);
    assert_eq!(of(Some(CANDIDATES), Some(7), 8.0), Some(7.0));
}

#[test]
fn lists_are_drawn_4000_times_from_an_iteration_unless_the_file_says_otherwise() {
    let updates = |line: &str| {
        let text = format!("{MODEL}{ROLLOUT}{line}\n{REWARD}");
        resolved(method("dense-reward"), &text, &facts())
            .unwrap()
            .rollout
            .unwrap()
            .sampled
            .unwrap()
            .updates_per_iteration
    };
    assert_eq!(updates(""), Some(4000));
    assert_eq!(updates("updates_per_iteration = \"auto\""), Some(4000));
    assert_eq!(updates("updates_per_iteration = 3"), Some(3));
}

#[test]
fn on_resume_contents_may_move_and_nothing_else_of_prompts_and_scorers_may_change() {
    let rows = "buffer = \"disk\"\n[reward]\nscorers = [{ name = \"style\", path = \"a\" }]\nwatch = [{ name = \"content\", path = \"a\" }]\n";
    let old = resolved(method("dpok"), &format!("{MODEL}{ROLLOUT}{rows}"), &facts()).unwrap();
    let change = |from: &str, to: &str, same: bool| {
        let text = toml::to_string(&old.table().unwrap()).unwrap();
        let new = text.replace(from, to);
        assert_ne!(new, text, "{from}");
        let new: Settings = toml::from_str(&new).unwrap();
        let mut found = changes(&old, &new, &|_| same).unwrap();
        assert_eq!(found.len(), 1, "{from} {found:?}");
        found.remove(0)
    };
    let moved = ("name = \"style\"\npath = \"a\"", "name = \"style\"\npath = \"b\"");
    assert_eq!(change(moved.0, moved.1, true), Change::Harmless);
    assert!(matches!(change(moved.0, moved.1, false), Change::Refused(text) if text.starts_with("reward.scorers: ")));
    assert!(matches!(change("weight = 1.0", "weight = 2.0", true), Change::Refused(_)));
    assert!(matches!(change("\"content\"", "\"style\"", true), Change::Refused(_)));
    assert_eq!(change("[\"a\", \"b\"]", "\"prompts.txt\"", true), Change::Harmless);
    assert!(matches!(change("[\"a\", \"b\"]", "[\"a\"]", false), Change::Refused(_)));
    assert!(matches!(change("batch = 8", "batch = 4", false), Change::Rounding(_)));
    assert!(matches!(change("\"disk\"", "\"memory\"", false), Change::Rounding(_)));
    assert!(matches!(change("eta = 1.0", "eta = 0.5", true), Change::Refused(_)));
    assert!(matches!(change("shaping = \"none\"", "shaping = \"par\"", true), Change::Refused(_)));
    assert_eq!(change("steps = 2\n", "steps = 3\n", false), Change::Harmless);
    assert!(matches!(change("micro_batch = 1", "micro_batch = 2", false), Change::Refused(_)));
}

#[test]
fn a_resolved_configuration_is_read_back_with_or_without_items() {
    for (name, text) in
        [("dpok", format!("{MODEL}{ROLLOUT}{REWARD}")), ("dpo", format!("{MODEL}[data]\npath = \"x\"\n"))]
    {
        let run = resolved(method(name), &text, &facts()).unwrap();
        let table = run.table().unwrap();
        let back: Settings = toml::from_str(&toml::to_string(&table).unwrap()).unwrap();
        assert_eq!(back.table().unwrap(), table, "{name}");
        assert_eq!(back.data.items.is_some(), name == "dpo");
        assert_eq!(Source::of(&back.method.needs), Source::of(&method(name).needs()));
    }
}

#[test]
fn a_model_with_fewer_timesteps_than_levels_to_start_from_is_refused() {
    let text = format!("{MODEL}[data]\npath = \"x\"\n");
    resolved(method("self_npo"), &text, &Facts { timesteps: 25, ..facts() }).unwrap();
    assert_eq!(
        resolved(method("self_npo"), &text, &Facts { timesteps: 24, ..facts() }).unwrap_err(),
        "run.toml: method.name = \"self_npo\" starts from one of 25 levels of noise, and this model has 24 timesteps. Take a model with 25 or more, or another method."
    );
}
