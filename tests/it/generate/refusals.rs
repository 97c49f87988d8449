//! What `diffpref generate` refuses, and what it leaves behind then.

use super::pictures::{generate, golden, paint, refused};
use crate::support::{self, Messages};
use std::path::Path;

#[test]
fn a_folder_with_pictures_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path();
    paint(out, &[]).assert().success();
    let plain = refused(&mut paint(out, &[]), 1, out);
    assert!(plain.contains("DIR holds pictures already"), "{plain}");
    let other = refused(&mut paint(out, &["--resume", "--guidance-scale", "3"]), 1, out);
    assert!(
        other.contains("DIR/000000-00.png was made with another guidance_scale: 7.5 there, 3.0 asked for"),
        "{other}"
    );
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::copy(golden().join("plain-5.png"), foreign.join("000000-00.png")).unwrap();
    let foreign = refused(&mut paint(&foreign, &["--resume"]), 1, out);
    assert!(foreign.contains("foreign/000000-00.png is in the way"), "{foreign}");
}

#[test]
fn pictures_that_were_cut_short_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (out, more) = (dir.path(), ["--num-images", "3"]);
    paint(out, &more).assert().success();
    let whole = support::files(out);
    let cut = out.join("000000-01.png");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(out.join("000000-02.png"), "").unwrap();
    let said = support::succeeds(&mut paint(out, &[&more[..], &["--resume"]].concat()));
    assert!(said.contains("note: 000000-01.png and 1 more: cut short or damaged, made again"), "{said}");
    assert!(said.contains("1 of 3 pictures are there already"), "{said}");
    assert_eq!(support::files(out), whole);
}

#[test]
fn wrong_arguments_exit_with_2_and_name_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut messages = Messages::default();
    let cases: [&[&str]; 10] = [
        &["--width", "33"],
        &["--width", "9223372036854775806"],
        &["--height", "16386"],
        &["--steps", "0"],
        &["--eta", "1.5"],
        &["--guidance-scale", "-1"],
        &["--scheduler", "lms"],
        &["--device", "tpu"],
        &["--lora", ":0.5"],
        &["--seed", "18446744073709551615"],
    ];
    for arguments in cases {
        let said = refused(&mut paint(&out, arguments), 2, dir.path());
        messages.add(&arguments.join(" "), &said);
    }
    insta::assert_snapshot!(messages);
    assert!(!out.exists(), "nothing is made before the arguments are checked");
    let none = refused(generate(&["--model", "x", "--out"]).arg(&out), 2, dir.path());
    assert!(none.contains("--prompt"), "{none}");
}

#[test]
fn a_model_of_another_form_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let with = |model: &Path| {
        let mut command = generate(&["--prompt", "a cat", "--out"]);
        command.arg(dir.path().join("out")).arg("--model").arg(model);
        command
    };
    let file = dir.path().join("model.safetensors");
    std::fs::write(&file, "x").unwrap();
    let single = refused(&mut with(&file), 1, dir.path());
    assert!(single.contains("DIR/model.safetensors: the file is truncated: it has only 1 bytes"), "{single}");
    let copy = dir.path().join("model");
    support::copy(&golden().join("model"), &copy);
    std::fs::remove_dir_all(copy.join("vae")).unwrap();
    let part = refused(&mut with(&copy), 1, dir.path());
    assert!(part.contains("DIR/model has no component folder vae/"), "{part}");
    // What is left of a model whose middle block was distilled away.
    let distilled = dir.path().join("distilled");
    support::copy(&golden().join("model"), &distilled);
    let weights = distilled.join("unet/diffusion_pytorch_model.safetensors");
    let file = pipelines::weights::TensorFile::open(&weights).unwrap();
    let kept = file.names().filter(|name| !name.starts_with("mid_block."));
    let kept: Vec<_> = kept.map(|name| (name.to_string(), file.tensor(name).unwrap().copy())).collect();
    drop(file);
    pipelines::weights::write_safetensors(&weights, &kept, &[]).unwrap();
    let distilled = refused(&mut with(&distilled), 1, dir.path());
    assert!(
        distilled.contains("this is a distilled model (SSD-1B, Vega, KOALA, BK-SDM), or a damaged one"),
        "{distilled}"
    );
    assert!(distilled.contains("mid_block.attentions.0"), "{distilled}");
    let names: Vec<_> = support::names(dir.path());
    assert!(!support::names(&dir.path().join("out")).iter().any(|name| name.ends_with(".png")), "{names:?}");
}

#[test]
fn an_output_that_cannot_be_written_is_named_and_nothing_half_written_stays() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let below = refused(&mut paint(&dir.path().join("file/out"), &[]), 1, dir.path());
    assert!(below.contains("cannot make the output folder DIR/file/out"), "{below}");

    let mut compared = paint(&dir.path().join("file/out"), &["--compare", "a=", "b="]);
    let compared = refused(&mut compared, 1, dir.path());
    assert!(compared.contains("cannot make the output folder DIR/file/out"), "{compared}");
    assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"x", "what is there stays");

    let out = dir.path().join("full");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_diffpref"));
    command
        .args(["generate", "--prompt", "a cat", "--steps", "1", "--device", "cpu", "--model"])
        .arg(golden().join("model"));
    command.arg("--out").arg(&out).env("HOME", dir.path()).env("OMP_NUM_THREADS", "1");
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1500, rlim_max: 1500 };
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(())
        });
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("000000-00.png") && text.contains("File too large"), "{text}");
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "no half-written picture stays, and nothing that keeps the next call out: {left:?}");
}
