//! What the program declares: `keys`, `methods`, and the parts of docs/ and configs/ that are made from them.

use crate::support::{diffpref, root};
use diffpref::objectives::REGISTRY;
use serde_json::Value;
use std::process::Command;

fn json(arguments: &[&str]) -> Value {
    let assert = diffpref().args(arguments).arg("--json").assert().success();
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let assert = diffpref().args(arguments).assert().code(2);
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

#[test]
fn keys_lists_every_table_with_values_defaults_and_what_may_change_on_resume() {
    let tables = json(&["keys"]);
    assert_eq!(tables.as_object().unwrap().len(), 15);
    let optim = json(&["keys", "optim"]);
    let keys = optim["optim"].as_array().unwrap();
    let lr = keys.iter().find(|key| key["key"] == "lr").unwrap();
    assert_eq!((&lr["required"], &lr["default"]), (&Value::Bool(true), &Value::Null));
    assert_eq!((lr["values"].as_str(), lr["on_resume"].as_str()), (Some("a number above 0"), Some("refused")));
    let sdxl = &json(&["keys", "reference"])["reference"];
    let limit = sdxl.as_array().unwrap().iter().find(|key| key["key"] == "divergence_limit").unwrap();
    assert_eq!(limit["families"], serde_json::json!([["Stable Diffusion XL", "0.002"]]));
}

#[test]
fn methods_lists_every_method_with_its_keys() {
    let methods = json(&["methods"]);
    let names: Vec<&str> = methods.as_array().unwrap().iter().filter_map(|method| method["name"].as_str()).collect();
    assert_eq!(names, REGISTRY.iter().map(|entry| entry.name).collect::<Vec<_>>());
    let inpo = &json(&["methods", "inpo"])[0];
    assert_eq!((inpo["paper"].as_str(), inpo["data"].as_str()), (Some("arXiv 2503.18454"), Some("pairs")));
    let beta = &inpo["keys"][0];
    assert_eq!((beta["key"].as_str(), beta["default"].as_str()), (Some("beta"), Some("2000.0")));
}

#[test]
fn a_misspelt_table_or_method_is_refused_with_the_nearest_name() {
    assert!(refusal(&["keys", "optin"]).contains("did you mean optim?"));
    assert!(refusal(&["keys", "method"]).contains("`diffpref methods NAME` lists them"));
    assert!(refusal(&["methods", "inpoo"]).contains("did you mean inpo?"));
}

#[test]
fn docs_and_recipes_hold_what_the_program_declares() {
    let program = env!("CARGO_BIN_EXE_diffpref");
    let check = Command::new("python3").arg(root().join("tools/docs.py")).args(["--check", program]).output().unwrap();
    assert!(
        check.status.success(),
        "{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
}
