//! A tiny world to train in: the model of `golden/generate`, pictures made here, and the real binary.

pub mod each;
pub mod recipes;
pub mod sampling;

use assert_cmd::Command;
use image::RgbImage;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Long enough for every command here, short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The tiny model: 2 pixels a latent, 32 x 32 pixels of its own.
pub fn model() -> PathBuf {
    golden("generate/model")
}

/// A LoRA of rank 4 for it.
pub fn lora() -> PathBuf {
    golden("generate/lora.safetensors")
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A golden file or folder.
pub fn golden(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// A fresh folder with pairs, a config, a cache and a run folder in it.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// `n` pairs `p0 ..` with prompts of their own, pictures `w0.png`, `l0.png` ..; a LoRA run of three steps of four
    /// pairs at 16 x 16 pixels.
    pub fn new(n: usize) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(world.path("data")).unwrap();
        let rows: String = (0..n).map(|i| world.pair(i)).collect();
        std::fs::write(world.pairs(), rows).unwrap();
        std::fs::write(world.path("run.toml"), world.config()).unwrap();
        world
    }

    /// Draws both pictures of a pair; returns its row.
    fn pair(&self, i: usize) -> String {
        for (side, blue) in [("w", 40), ("l", 215)] {
            let picture = RgbImage::from_fn(20, 16, |x, y| {
                let stripe = (x as usize * (i % 5 + 1) + y as usize * (i % 3)) * 12;
                image::Rgb([(stripe % 256) as u8, (i * 23 % 256) as u8, blue])
            });
            picture.save(self.path(&format!("data/{side}{i}.png"))).unwrap();
        }
        let row = serde_json::json!({
            "id": format!("p{i}"), "prompt": format!("a drawing of number {i}"),
            "winner": format!("w{i}.png"), "loser": format!("l{i}.png"),
        });
        format!("{row}\n")
    }

    fn config(&self) -> String {
        let (model, pairs) = (model().display().to_string(), self.pairs().display().to_string());
        let (cache, out) = (self.path("cache").display().to_string(), self.run_dir().display().to_string());
        format!(
            "[model]\npath = \"{model}\"\ndevice = \"cpu\"\n\
             [data]\npath = \"{pairs}\"\nresolution = 16\ncache_dir = \"{cache}\"\nworkers = 2\n\
             [validate]\nfraction = 0.25\nevery = 0\ndraws = 2\n\
             [method]\nname = \"dpo\"\nbeta = 500\n\
             [lora]\nrank = 2\n\
             [optim]\nlr = 1e-2\n\
             [train]\nout = \"{out}\"\nsteps = 3\nmicro_batch = 2\ngrad_accum = 2\nthreads = 1\n\
             [sample]\nevery = 0\n\
             [log]\ntensorboard = false\n"
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn pairs(&self) -> PathBuf {
        self.path("data/pairs.jsonl")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// `diffpref train run.toml` with further arguments.
    pub fn train(&self, arguments: &[&str]) -> Command {
        let mut command = diffpref();
        command.arg("train").arg(self.path("run.toml")).args(arguments);
        command
    }

    /// As `train`, every argument an override.
    pub fn train_with(&self, sets: &[&str]) -> Command {
        self.train(&sets.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>())
    }

    /// Trains into the folder `name` and returns it.
    pub fn trained(&self, name: &str, sets: &[&str]) -> PathBuf {
        let out = format!("train.out=\"{}\"", self.path(name).display());
        succeeds(&mut self.train_with(&[&[out.as_str()], sets].concat()));
        self.path(name)
    }

    /// Starts the binary and leaves it running; stderr and stdout can be read line by line.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("diffpref"));
        command.arg("train").arg(self.path("run.toml")).args(arguments).env("OMP_NUM_THREADS", "1");
        Running::spawn(command)
    }

    /// As `train`, with a signal that the process sends itself at a point of its work (src/cli/signal_point.rs): exit code
    /// (None after a kill) and stderr.
    pub fn signalled(&self, point: &str, arguments: &[&str]) -> (Option<i32>, String) {
        signalled(point, &mut self.train(arguments))
    }

    /// stderr of a refused call: exit code as given, no panic, no C++ stack; the folder is called DIR.
    pub fn refused(&self, command: &mut Command, code: i32) -> String {
        let assert = command.assert().failure().code(code);
        let output = assert.get_output();
        let text = String::from_utf8_lossy(&output.stderr).replace(&self.dir.path().display().to_string(), "DIR");
        for word in ["panicked", "internal error", "Exception raised", "unwrap()"] {
            assert!(!text.contains(word), "{text}");
        }
        text
    }
}

/// The binary, on one thread: the networks are so small that two spend their time waiting for each other.
pub fn diffpref() -> Command {
    let mut command = Command::cargo_bin("diffpref").unwrap();
    command.env("OMP_NUM_THREADS", "1").env("HOME", env!("CARGO_TARGET_TMPDIR")).timeout(PATIENCE);
    command
}

/// Runs a command that sends itself a signal at a point of its work: exit code and stderr.
pub fn signalled(point: &str, command: &mut Command) -> (Option<i32>, String) {
    let output = command.env("DIFFPREF_TEST_SIGNAL", point).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("DIFFPREF_TEST_SIGNAL: the point is reached"), "{point}: {said}");
    (output.status.code(), said)
}

/// Runs a command that must succeed; returns its stderr.
pub fn succeeds(command: &mut Command) -> String {
    let assert = command.assert().success();
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

/// Overrides as arguments.
pub fn flags<'a>(sets: &[&'a str]) -> Vec<&'a str> {
    sets.iter().flat_map(|set| ["--set", set]).collect()
}

/// What refused calls said, for a snapshot: each case with the whole message below it. `INSTA_UPDATE=always` before the
/// command that runs the tests writes the snapshots anew.
#[derive(Default)]
pub struct Messages(String);

impl Messages {
    /// The repository becomes ROOT, the list of all methods METHODS.
    pub fn add(&mut self, case: &str, said: &str) {
        let mut said = said.trim_end().replace(&root().display().to_string(), "ROOT");
        if let Some((before, _)) = said.split_once("Methods: ") {
            said = format!("{before}Methods: METHODS");
        }
        let indented: String = said.lines().map(|line| format!("    {line}").trim_end().to_string() + "\n").collect();
        self.0 += &format!("{case}\n{indented}\n");
    }
}

impl std::fmt::Display for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The lines of metrics.jsonl.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Metrics without what a clock or the machine's memory decides.
pub fn timeless(run: &Path) -> Vec<Value> {
    let mut lines = metrics(run);
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        for key in ["pairs_per_s", "s_per_step", "data_wait_s", "peak_mem_gib"] {
            line.remove(key).unwrap_or_else(|| panic!("no {key}"));
        }
        // Of methods that sample while they train: on the first line of an iteration.
        line.remove("rollout_s");
    }
    lines
}

/// A number of a metrics line, which must be there.
pub fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key}: {line}"))
}

pub fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Relative path -> hash of every file below `dir`.
pub fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                out.insert(name, sha256(&std::fs::read(&path).unwrap()));
            }
        }
    }
    out
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Names in a folder, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A picture.
pub fn rgb(path: &Path) -> RgbImage {
    image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).to_rgb8()
}

/// The largest difference of a channel of a pixel, in levels of 255.
pub fn furthest(a: &RgbImage, b: &RgbImage) -> i32 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max().unwrap()
}

/// The tensors of a safetensors file as float64, by name.
pub fn tensors(file: &Path) -> BTreeMap<String, Vec<f64>> {
    let file = pipelines::weights::TensorFile::open(file).unwrap();
    let names: Vec<String> = file.names().map(String::from).collect();
    let values = |name: &str| {
        let tensor = file.tensor(name).unwrap().to_kind(tch::Kind::Double).flatten(0, -1);
        Vec::<f64>::try_from(tensor).unwrap()
    };
    names.iter().map(|name| (name.clone(), values(name))).collect()
}

/// |a - b| / |b| over all tensors together.
pub fn distance(a: &BTreeMap<String, Vec<f64>>, b: &BTreeMap<String, Vec<f64>>) -> f64 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let both = || a.values().flatten().zip(b.values().flatten());
    (square(&mut both().map(|(x, y)| x - y)) / square(&mut both().map(|(_, y)| *y))).sqrt()
}

/// Zeroes the moments and step counts of a checkpoint and makes its checksum fit.
pub fn zero_optimizer(checkpoint: &Path) {
    let file = checkpoint.join("optimizer.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(bytes[header..].iter().any(|b| *b != 0));
    bytes[header..].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    let mut state = json(&checkpoint.join("state.json"));
    state["files"]["optimizer.safetensors"] = sha256(&bytes).into();
    std::fs::write(checkpoint.join("state.json"), state.to_string()).unwrap();
}

/// A started process. Killed when dropped.
pub struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    pub said: String,
}

impl Running {
    pub fn spawn(mut command: std::process::Command) -> Self {
        let mut child = command
            .env("HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, said: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads stderr up to a line that contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            self.said += &line;
            assert!(read > 0, "it ended without \"{text}\":\n{}", self.said);
            if line.contains(text) {
                return;
            }
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for yet, so its pid is its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// Waits for the end: exit code (None after a kill), and everything it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let began = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if began.elapsed() > PATIENCE => panic!("it does not end:\n{}", self.said),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        (status.code(), std::mem::take(&mut self.said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
