//! Reports in headless Chromium: nothing is requested, nothing is complained about, every picture is shown. Without
//! Chromium the test is skipped, and says so.

use crate::support::{World, diffpref, lora, model, succeeds};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Counts in the page what it shows; the one line on the console proves that the console is read.
const COUNT: &str = r#"<script>
addEventListener("load", () => {
  console.log("counted");
  const fetched = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:"));
  const count = (what) => document.querySelectorAll(what).length;
  document.title = "FOUND" + JSON.stringify({
    pictures: document.images.length,
    shown: [...document.images].filter((picture) => picture.naturalWidth > 0).length,
    rows: count("table.pictures tr"), pairs: count("tr.pair"), requests: fetched.length,
  }) + "END";
});
</script></body>"#;

/// The first browser on the path.
fn browser() -> Option<&'static str> {
    NAMES.into_iter().find(|name| Command::new(name).arg("--version").output().is_ok_and(|done| done.status.success()))
}

/// Counts of an opened page, and what it wrote to the console.
fn opened(browser: &str, page: &Path, dir: &Path) -> (Value, Vec<String>) {
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("</body>"));
    let copy = dir.join("counted.html");
    std::fs::write(&copy, html.replace("</body>", COUNT)).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--enable-logging=stderr", "--virtual-time-budget=20000"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", copy.display()))
        .output()
        .unwrap();
    let (dom, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = dom.split_once("FOUND").and_then(|(_, rest)| rest.split_once("END"));
    let (found, _) = found.unwrap_or_else(|| panic!("{browser} did not open the page: {said}"));
    let found = serde_json::from_str(&found.replace("&quot;", "\"")).unwrap();
    (found, said.lines().filter(|line| line.contains(":CONSOLE")).map(String::from).collect())
}

#[test]
fn a_report_in_chromium_shows_every_picture_and_requests_nothing() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: none of {NAMES:?} is installed (Debian: apt-get install chromium)");
        return;
    };
    let world = World::new(3);
    std::fs::write(world.path("prompts.txt"), "a red fox\na dog\n").unwrap();
    let mut command = diffpref();
    command
        .env("XDG_CACHE_HOME", world.path("cache"))
        .args(["eval", "--device", "cpu", "--steps", "2", "--seeds", "2"]);
    command.arg("--model").arg(format!("one={}", model().display()));
    command.arg("--model").arg(format!("two={}+{}", model().display(), lora().display()));
    command.args(["--scorer", "compressibility", "--prompts"]).arg(world.path("prompts.txt"));
    command.arg("--pairs").arg(world.pairs()).arg("--out").arg(world.path("eval"));
    succeeds(&mut command);
    let (found, console) = opened(browser, &world.path("eval/report.html"), &world.path(""));
    // Two tables of two prompts by two models from two seeds, and the three pairs by both models.
    let (gallery, pairs) = (2 * 2 * 2 * 2, 2 * 3 * 2);
    let heads = 2 + 2;
    let expected = serde_json::json!({
        "pictures": gallery + pairs, "shown": gallery + pairs, "rows": heads + 2 * 2 + 2 * 3, "pairs": 2 * 3, "requests": 0,
    });
    assert_eq!(found, expected);
    assert!(matches!(&console[..], [only] if only.contains("counted")), "{console:?}");
}
