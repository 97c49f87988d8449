//! Models of the hub: a local server plays it. What is fetched, what is kept, and what is said when it cannot be.

use crate::support::{self, diffpref};
use assert_cmd::Command;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const PICTURE: [&str; 10] =
    ["--scheduler", "ddim", "--steps", "2", "--seed", "5", "--device", "cpu", "--prompt", "a black cat"];

fn golden() -> PathBuf {
    support::golden("generate/model")
}

/// A hub with one model, `org/name`, on a thread of its own. It ends with the process.
struct Hub {
    endpoint: String,
    /// Method-less request lines with their tokens: `path token`.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn serve(files: BTreeMap<String, Vec<u8>>, token: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &files, token, &seen);
            }
        });
        Self { endpoint, requests }
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|r| r.split(' ').next().unwrap().to_string()).collect()
    }
}

/// Answers one request: the list of a revision, or a part of a file with its commit and etag.
fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    token: Option<&str>,
    seen: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_string();
    let (mut range, mut given) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "range" => range = value.trim_start_matches("bytes=").split('-').next()?.parse().ok()?,
            "authorization" => given = value.trim_start_matches("Bearer ").to_string(),
            _ => {}
        }
    }
    seen.lock().unwrap().push(format!("{path} {given}"));
    let send = |stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()
    };
    if token.is_some_and(|token| token != given) {
        return send(&mut stream, "401 Unauthorized", "", b"");
    }
    if let Some(revision) = path.strip_prefix("/api/models/org/name/revision/") {
        if revision != "main" && revision != "v2" {
            return send(&mut stream, "404 Not Found", "", b"");
        }
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return send(&mut stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes());
    }
    let name = path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"));
    let Some(content) = name.and_then(|name| files.get(name)) else {
        return send(&mut stream, "404 Not Found", "", b"");
    };
    let etag = name?.replace('/', "-");
    let headers = format!(
        "x-repo-commit: {COMMIT}\r\netag: \"{etag}\"\r\nContent-Range: bytes {range}-{}/{}\r\n",
        content.len().max(1) - 1,
        content.len()
    );
    send(&mut stream, "206 Partial Content", &headers, content.get(range..)?)
}

/// The files of a folder by their paths in it.
fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    let name = path.strip_prefix(dir).unwrap().display().to_string();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

fn generate(endpoint: &str, home: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = diffpref();
    command.args(["generate", "--model", "org/name", "--out"]).arg(home.join(out)).args(PICTURE).args(more);
    for variable in ["HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home.join("hf")).env("HOME", home).env("OMP_NUM_THREADS", "1");
    // A folder without a folder org/name in it.
    command.current_dir(home);
    command
}

fn refused(command: &mut Command) -> String {
    let assert = command.assert().failure().code(1);
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("org/name") && !text.contains("internal error"), "{text}");
    text
}

#[test]
fn a_model_is_fetched_once_as_far_as_it_is_needed_and_then_works_offline() {
    let home = tempfile::tempdir().unwrap();
    let mut files = files_of(&golden());
    for other in ["unet/diffusion_pytorch_model.bin", "README.md", "unet/diffusion_pytorch_model.fp16.safetensors"] {
        files.insert(other.into(), b"not needed".to_vec());
    }
    let hub = Hub::serve(files, None);
    let first = generate(&hub.endpoint, home.path(), "first", &[]).assert().success();
    let said = String::from_utf8_lossy(&first.get_output().stderr).into_owned();
    assert!(said.contains("downloading unet/diffusion_pytorch_model.safetensors"), "{said}");
    let fetched = hub.paths();
    assert!(fetched.iter().any(|path| path.ends_with("tokenizer/tokenizer.json")), "{fetched:?}");
    assert!(!fetched.iter().any(|path| path.ends_with(".bin") || path.contains("README") || path.contains("fp16")));
    let cache = home.path().join("hf/hub/models--org--name");
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    let snapshot = cache.join("snapshots").join(COMMIT);
    assert_eq!(
        std::fs::read(snapshot.join("model_index.json")).unwrap(),
        std::fs::read(golden().join("model_index.json")).unwrap()
    );
    // Again: only the list is asked for, nothing is downloaded.
    generate(&hub.endpoint, home.path(), "second", &[]).assert().success();
    assert_eq!(hub.paths()[fetched.len()..], ["/api/models/org/name/revision/main"]);
    let asked = hub.paths().len();
    generate(&hub.endpoint, home.path(), "third", &[]).env("HF_HUB_OFFLINE", "1").assert().success();
    assert_eq!(hub.paths().len(), asked, "an offline run asked the hub");
    let pictures: Vec<_> = ["first", "second", "third"]
        .map(|out| image::open(home.path().join(out).join("000000-00.png")).unwrap())
        .into();
    assert!(pictures[0] == pictures[1] && pictures[0] == pictures[2]);
}

#[test]
fn a_revision_a_variant_and_a_token_are_passed_on() {
    let home = tempfile::tempdir().unwrap();
    let mut files = files_of(&golden());
    for part in ["unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"] {
        let weights = files.remove(&format!("{part}.safetensors")).unwrap();
        files.insert(format!("{part}.half.safetensors"), weights);
    }
    let hub = Hub::serve(files, Some("hf_secret"));
    let message = refused(&mut generate(&hub.endpoint, home.path(), "a", &[]));
    assert!(message.contains("there is no token") && message.contains("HF_TOKEN"), "{message}");
    let with_token = |out: &str, more: &[&str]| {
        let mut command = generate(&hub.endpoint, home.path(), out, more);
        command.env("HF_TOKEN", "hf_secret");
        command
    };
    let message = refused(&mut with_token("a", &["--revision", "v2"]));
    assert!(message.contains("no safetensors weights") && message.contains("model.half.safetensors"), "{message}");
    with_token("a", &["--revision", "v2", "--variant", "half"]).assert().success();
    assert!(hub.paths().contains(&"/api/models/org/name/revision/v2".to_string()));
    let message = refused(&mut with_token("b", &["--revision", "nope"]));
    assert!(message.contains("no model of that name with a revision nope"), "{message}");
    assert!(!home.path().join("b").exists());
    // huggingface_hub's own place for the token.
    std::fs::write(home.path().join("hf/token"), "hf_secret\n").unwrap();
    generate(&hub.endpoint, home.path(), "c", &["--revision", "v2", "--variant", "half"]).assert().success();
}

#[test]
fn without_network_the_message_says_what_would_help() {
    let home = tempfile::tempdir().unwrap();
    // A port that was free a moment ago: nothing listens there.
    let endpoint = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let message = refused(&mut generate(&endpoint, home.path(), "a", &[]));
    assert!(message.contains("cannot be asked for it") && message.contains("does not hold this model"), "{message}");
    let message = refused(generate(&endpoint, home.path(), "a", &[]).env("HF_HUB_OFFLINE", "1"));
    assert!(message.contains("is not in the cache, and HF_HUB_OFFLINE is set"), "{message}");
    let hub = Hub::serve(files_of(&golden()), None);
    generate(&hub.endpoint, home.path(), "a", &[]).assert().success();
    let message = refused(&mut generate(&endpoint, home.path(), "b", &[]));
    assert!(message.contains("set HF_HUB_OFFLINE=1 to use it"), "{message}");
    assert!(!home.path().join("b").exists());
}

#[test]
fn pickles_several_checkpoints_and_names_that_lead_out_of_the_cache_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let refuse = |names: &[&str]| {
        let files = names.iter().map(|name| ((*name).to_string(), b"x".to_vec())).collect();
        refused(&mut generate(&Hub::serve(files, None).endpoint, home.path(), "a", &[]))
    };
    assert!(refuse(&["model.ckpt"]).contains("only the pickle model.ckpt"));
    let message = refuse(&["a.safetensors", "b.safetensors"]);
    assert!(message.contains("a.safetensors, b.safetensors") && message.contains("download one of them"), "{message}");
    assert!(refuse(&["../../evil.safetensors"]).contains("no .safetensors file"));
    let mut pickles = files_of(&golden());
    let weights = pickles.remove("unet/diffusion_pytorch_model.safetensors").unwrap();
    pickles.insert("unet/diffusion_pytorch_model.bin".into(), weights);
    let message = refused(&mut generate(&Hub::serve(pickles, None).endpoint, home.path(), "a", &[]));
    assert!(message.contains("unet/diffusion_pytorch_model.bin") && message.contains("save_pretrained"), "{message}");
}

#[test]
fn a_repository_with_one_checkpoint_is_that_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("whole.safetensors");
    let mut export = diffpref();
    export
        .args(["export", "--format", "checkpoint", "--model"])
        .arg(golden())
        .arg("--out")
        .arg(&file)
        .assert()
        .success();
    let mut bytes = Vec::new();
    std::fs::File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
    let files = BTreeMap::from([("whole.safetensors".to_string(), bytes), ("README.md".to_string(), b"x".to_vec())]);
    generate(&Hub::serve(files, None).endpoint, home.path(), "a", &[]).assert().success();
    let mut offline = generate("http://127.0.0.1:1", home.path(), "b", &[]);
    offline.env("HF_HUB_OFFLINE", "1").assert().success();
}
