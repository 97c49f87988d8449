//! What is refused, and that nothing is lost or left behind by it.

use super::{golden, named, refused, unet, write_unet};
use std::path::Path;
use tch::Tensor;

/// Runs every case and checks that no file appeared beside those of `before`.
fn nothing_is_left(dir: &Path, check: impl FnOnce(&Path)) {
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    check(&dir.join("out"));
    assert_eq!(names(), before, "something was left behind");
}

#[test]
fn another_architecture_is_refused_with_names_and_shapes() {
    let dir = tempfile::tempdir().unwrap();
    nothing_is_left(dir.path(), |out| {
        let (base, other) = (named("merge/base"), named("generate/model/unet"));
        let parts =
            ["another architecture than", "misshapen", "conv_in.weight: expected [4, 4, 3, 3], found [16, 4, 3, 3]"];
        refused(&["soup", "--model", &base, "--model", &other], out, 1, &parts);
        let (sd, sdxl) = (named("generate/model"), named("families/sdxl"));
        refused(
            &["task-vector", "--base", &sd, "--model", &sdxl],
            out,
            1,
            &["another architecture", "missing", "extra"],
        );
        let lora = named("generate/lora.safetensors");
        refused(&["lora", "--base", &sdxl, "--lora", &lora], out, 1, &["lora.safetensors", "another architecture"]);
    });
}

#[test]
fn equal_shapes_that_compute_otherwise_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let heads = dir.path().join("heads");
    write_unet(&heads, &unet(&golden("merge/a")));
    let text = std::fs::read_to_string(heads.join("config.json")).unwrap();
    std::fs::write(heads.join("config.json"), text.replace("\"attention_head_dim\": 2", "\"attention_head_dim\": 4"))
        .unwrap();
    let (base, heads) = (named("merge/base"), heads.display().to_string());
    nothing_is_left(dir.path(), |out| {
        refused(&["soup", "--model", &base, "--model", &heads], out, 1, &["attention_head_dim", "[4, 4]", "[2, 2]"]);
    });
}

#[test]
fn missing_tensors_and_values_that_are_not_finite_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (short, broken) = (dir.path().join("short"), dir.path().join("broken"));
    let mut tensors = unet(&golden("merge/a"));
    tensors.remove("mid_block.resnets.0.conv1.weight");
    write_unet(&short, &tensors);
    let mut tensors = unet(&golden("merge/a"));
    let _ = tensors.get_mut("conv_in.bias").unwrap().get(1).fill_(f64::NAN);
    write_unet(&broken, &tensors);
    let lora = dir.path().join("lora.safetensors");
    let path = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let matrices = [
        (format!("{path}.lora_A.weight"), Tensor::full([1, 8], f64::INFINITY, (tch::Kind::Float, tch::Device::Cpu))),
        (format!("{path}.lora_B.weight"), Tensor::ones([8, 1], (tch::Kind::Float, tch::Device::Cpu))),
    ];
    pipelines::weights::write_safetensors(&lora, &matrices, &[]).unwrap();
    let (base, short, broken) = (named("merge/base"), short.display().to_string(), broken.display().to_string());
    let lora = lora.display().to_string();
    nothing_is_left(dir.path(), |out| {
        let missing = ["short", "missing (1)", "mid_block.resnets.0.conv1.weight"];
        refused(&["soup", "--model", &base, "--model", &short], out, 1, &missing);
        let not_finite = ["broken", "conv_in.bias", "not finite", "another checkpoint"];
        refused(&["soup", "--model", &base, "--model", &broken], out, 1, &not_finite);
        refused(&["soup", "--model", &broken, "--model", &base], out, 1, &not_finite);
        let single = out.with_extension("safetensors");
        refused(&["extract", "--base", &base, "--model", &broken, "--rank", "1"], &single, 1, &not_finite);
        refused(&["lora", "--base", &base, "--lora", &lora], out, 1, &["lora.safetensors", "to_q", "not finite"]);
        refused(&["soup", "--model", &base, "--model", &format!("{base}:nan")], out, 2, &["finite weight"]);
    });
}

#[test]
fn a_text_encoders_part_is_refused_where_there_is_no_text_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lora.safetensors");
    let module = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj";
    let ones = |shape: [i64; 2]| Tensor::ones(shape, (tch::Kind::Float, tch::Device::Cpu));
    let tensors =
        [(format!("{module}.lora_A.weight"), ones([1, 24])), (format!("{module}.lora_B.weight"), ones([24, 1]))];
    pipelines::weights::write_safetensors(&path, &tensors, &[]).unwrap();
    let lora = path.display().to_string();
    nothing_is_left(dir.path(), |out| {
        let (unet, whole) = (named("generate/model/unet"), named("generate/model"));
        let parts = ["text encoder", "a UNet alone has none", "give the whole model"];
        refused(&["lora", "--base", &unet, "--lora", &lora], out, 1, &parts);
        let parts = ["text encoder", "--format unet", "leave"];
        refused(&["lora", "--base", &whole, "--lora", &lora, "--format", "unet"], out, 2, &parts);
    });
}

#[test]
fn a_rank_that_no_layer_has_is_refused_with_the_largest() {
    let dir = tempfile::tempdir().unwrap();
    nothing_is_left(dir.path(), |out| {
        let out = out.with_extension("safetensors");
        let (base, a, lora) = (named("merge/base"), named("merge/a"), named("merge/lora.safetensors"));
        let extract = |rank| ["extract", "--base", &base, "--model", &a, "--rank", rank].map(String::from);
        let run = |arguments: [String; 7], parts: &[&str]| {
            refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &out, 1, parts);
        };
        run(extract("4096"), &["rank 4096 is larger than any layer", "give 16 or less"]);
        run(extract("0"), &["the rank is 0, expected at least 1"]);
        let join = ["join", "--base", &base, "--lora", &lora, "--rank", "9"];
        refused(&join, &out, 1, &["rank 9 is larger than any layer", "at most 8"]);
        let whole = ["npo", "--base", &base, "--positive", &a, "--negative", &a, "--as-lora"];
        refused(&whole, &out, 2, &["--rank is missing", "for example --rank 32"]);
    });
}

#[test]
fn what_is_in_the_way_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (out, folder) = (dir.path().join("out.safetensors"), dir.path().join("folder"));
    std::fs::write(&out, "precious").unwrap();
    std::fs::create_dir(&folder).unwrap();
    let (base, model) = (named("merge/base"), named("generate/model"));
    refused(&["soup", "--model", &model], &out, 2, &["exists already", "name another"]);
    refused(&["soup", "--model", &base], &folder, 2, &["exists already"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn what_does_not_go_together_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    nothing_is_left(dir.path(), |out| {
        let file = out.with_extension("safetensors");
        let (base, a, lora) = (named("merge/base"), named("merge/a"), named("merge/lora.safetensors"));
        let (most, some) = (format!("{base}:0.9"), format!("{a}:0.3"));
        refused(
            &["soup", "--model", &most, "--model", &some],
            out,
            2,
            &["add up to 1.2", "divide each", "task-vector"],
        );
        refused(&["soup", "--model", &base, "--model", &some], out, 2, &["give all, or none"]);
        refused(&["soup", "--model", &base, "--model", &lora], out, 2, &["cannot be averaged", "merge lora"]);
        refused(&["lora", "--base", &base, "--lora", &a], out, 1, &["no LoRA in that folder"]);
        refused(
            &["lora", "--base", &base, "--lora", "none.safetensors"],
            out,
            1,
            &["none.safetensors", "no such file"],
        );
        refused(&["lora", "--base", &lora, "--lora", &lora], out, 2, &["--base", "give the model that it is for"]);
        refused(&["soup", "--model", &base], &file, 2, &["the base is a UNet alone", "--format unet"]);
        refused(
            &["soup", "--model", &base, "--format", "lora-peft"],
            &file,
            2,
            &["the result is a model", "--as-lora"],
        );
        let extract = ["extract", "--base", &base, "--model", &a, "--rank", "2"];
        refused(&extract, out, 2, &["ends in .safetensors"]);
        refused(&[&extract[..], &["--format", "unet"]].concat(), out, 2, &["the result is a LoRA"]);
        refused(&[&extract[..], &["--format", "lora-kohya"]].concat(), &file, 2, &["names the family", "--base"]);
        refused(&["soup", "--model", &named("generate/model"), "--format", "unet"], &file, 2, &["expected a folder"]);
        refused(
            &["npo", "--base", &base, "--positive", &a, "--negative", &a, "--alpha", "inf"],
            out,
            2,
            &["--alpha", "finite"],
        );
        refused(&["join", "--lora", &lora], &file, 1, &["cannot be told", "--base"]);
    });
}
