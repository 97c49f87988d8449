//! `diffpref doctor`.

use crate::support::diffpref;
use serde_json::Value;

fn stdout(arguments: &[&str]) -> String {
    let assert = diffpref().args(arguments).assert().success();
    String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
}

#[test]
fn doctor_says_in_json_what_works_here() {
    let facts: Value = serde_json::from_str(&stdout(&["doctor", "--json"])).unwrap();
    assert_eq!(facts["diffpref"], env!("CARGO_PKG_VERSION"));
    assert!(facts["libtorch"].as_str().unwrap().starts_with("2."));
    let library = facts["libtorch_cpu"].as_str().unwrap();
    assert!(std::path::Path::new(library).is_file(), "{library}");
    for kind in ["float32", "bfloat16", "float64"] {
        assert_eq!(facts["precision"][format!("cpu {kind}")], "works");
    }
    assert_eq!(facts["cuda_devices"], tch::Cuda::device_count());
    assert!(facts["cores"].as_u64().unwrap() >= 1 && facts["cache_free_gib"].as_f64().unwrap() >= 0.0);
    assert!(facts["cache_dir"].as_str().unwrap().ends_with("/diffpref"));
}

#[test]
fn doctor_says_the_same_in_words() {
    let facts: Value = serde_json::from_str(&stdout(&["doctor", "--json"])).unwrap();
    let text = stdout(&["doctor"]);
    for name in facts.as_object().unwrap().keys() {
        assert!(text.lines().any(|line| line.starts_with(name.as_str())), "{name} is not in\n{text}");
    }
    assert!(text.lines().any(|l| l.split_whitespace().eq(["cpu", "float32", "works"])), "{text}");
    assert!(!text.contains('{') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_cache_follows_xdg_cache_home() {
    let dir = tempfile::tempdir().unwrap();
    let assert = diffpref().args(["doctor", "--json"]).env("XDG_CACHE_HOME", dir.path()).assert().success();
    let facts: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(facts["cache_dir"], dir.path().join("diffpref").display().to_string());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "doctor only looks");
}
