//! `diffpref sweep`: many trials of a tiny run.

mod killed;
mod refusals;
mod run;
mod statistics;
mod workers;

use crate::support::{World, diffpref};
use assert_cmd::Command;
use std::path::PathBuf;

/// Two values of beta and two seeds: four trials of three steps, ranked by the held-out margin.
pub const FOUR: &str = "seeds = [0, 1]\nrank_by = \"val_margin\"\n[axes]\n\"method.beta\" = [200, 800]\n";

/// A world with `sweep.toml`, whose trials are validated after every step.
pub fn world(text: &str) -> World {
    let world = World::new(8);
    let config = std::fs::read_to_string(world.path("run.toml")).unwrap();
    let validated = config.replace("fraction = 0.25\nevery = 0", "fraction = 0.25\nevery = 1");
    assert_ne!(config, validated);
    std::fs::write(world.path("run.toml"), validated).unwrap();
    write(&world, text);
    world
}

/// Writes `sweep.toml`: base and out come first.
pub fn write(world: &World, text: &str) {
    let (base, out) = (world.path("run.toml").display().to_string(), folder(world).display().to_string());
    std::fs::write(world.path("sweep.toml"), format!("base = \"{base}\"\nout = \"{out}\"\n{text}")).unwrap();
}

pub fn folder(world: &World) -> PathBuf {
    world.path("runs/sweep")
}

pub fn trial(world: &World, number: usize) -> PathBuf {
    folder(world).join(format!("trials/{number:04}"))
}

pub fn sweep(world: &World, arguments: &[&str]) -> Command {
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).arg("sweep").arg(world.path("sweep.toml")).args(arguments);
    command
}

pub fn worker(world: &World) -> Command {
    let mut command = diffpref();
    command.env("XDG_CACHE_HOME", world.path("cache")).arg("sweep-worker").arg(folder(world));
    command
}

/// Files of the answer.
pub fn answer(world: &World) -> [Vec<u8>; 3] {
    ["answer.json", "report.html", "winner.toml"].map(|name| {
        let text = std::fs::read_to_string(folder(world).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let dir = world.path("").display().to_string();
        // The page escapes slashes.
        text.replace(&dir, "DIR/").replace(&dir.replace('/', "&#x2f;"), "DIR/").into_bytes()
    })
}

pub fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().success().get_output().stdout.clone()).unwrap()
}
