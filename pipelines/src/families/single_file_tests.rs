//! Checkpoints of full size as sparse files: every name and shape, and no data.

use super::*;
use crate::families::ModelFolder;
use crate::families::layout::tests::{declared, full_size};
use crate::schedulers::PredictionType;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

type Tensors = BTreeMap<String, Vec<i64>>;

/// The tensors of a family's checkpoint as others write them.
fn tensors(declaration: &'static Declaration) -> Tensors {
    let prefix = |component: &str| {
        let part = declaration.text.iter().find(|part| part.encoder == component);
        part.map_or("", |part| part.prefixes[0])
    };
    let places = full_size(declaration).into_iter();
    places.map(|p| (format!("{}{}", prefix(p.component), p.stored), p.form.stored_shape(&p.shape))).collect()
}

/// A file with these tensors in float16, whose data is a hole.
fn sparse(path: &Path, tensors: &Tensors, metadata: &[(&str, &str)]) -> PathBuf {
    let mut header = Map::new();
    let texts: Map<String, Value> = metadata.iter().map(|(key, text)| ((*key).into(), json!(text))).collect();
    header.insert("__metadata__".into(), Value::Object(texts));
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<i64>();
        header.insert(name.clone(), json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + end as u64).unwrap();
    path.to_path_buf()
}

#[test]
fn every_family_is_recognised_by_its_shapes_and_looks_like_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    for (key, family, scheduler, side) in [
        ("sd1", "Stable Diffusion 1", "PNDMScheduler", 64),
        ("sd2", "Stable Diffusion 2", "DDIMScheduler", 64),
        ("sdxl", "Stable Diffusion XL", "EulerDiscreteScheduler", 128),
    ] {
        let path = sparse(&dir.path().join("model.safetensors"), &tensors(declared(key)), &[]);
        let folder = ModelFolder::open(&path).unwrap();
        assert_eq!((folder.family().name(), folder.network().native_side()), (family, side));
        assert_eq!(folder.scheduler().class_name, scheduler);
        assert!(folder.weight_files().iter().all(|(_, file)| *file == path));
        let parts = if key == "sdxl" { 4 } else { 3 };
        assert_eq!((folder.weight_files().len(), folder.text().len()), (parts, parts - 2));
    }
}

#[test]
fn files_of_other_programs_are_read_with_what_they_hold_beside_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let open = |tensors: &Tensors| ModelFolder::open(&sparse(&dir.path().join("m.safetensors"), tensors, &[]));
    let mut sd1 = tensors(declared("sd1"));
    for extra in [
        "alphas_cumprod",
        "global_step",
        "model_ema.diffusion_modelout2bias",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "first_stage_model.loss.logvar",
    ] {
        sd1.insert(extra.into(), vec![1]);
    }
    open(&sd1).unwrap();
    // Without `text_model.`, as some programs write CLIP-L; matrices in the VAE's attention.
    let short: Tensors = sd1
        .iter()
        .map(|(name, shape)| {
            let matrix = name.contains("mid.attn_1") && shape.len() == 4;
            let shape = if matrix { shape[..2].to_vec() } else { shape.clone() };
            (name.replace("transformer.text_model.", "transformer."), shape)
        })
        .collect();
    open(&short).unwrap();
    let mut sd2 = tensors(declared("sd2"));
    let block: Vec<_> = sd2.iter().filter(|(name, _)| name.contains("resblocks.22.")).collect();
    let block: Tensors =
        block.into_iter().map(|(n, s)| (n.replace("resblocks.22.", "resblocks.23."), s.clone())).collect();
    sd2.extend(block);
    sd2.insert("cond_stage_model.model.logit_scale".into(), vec![]);
    sd2.insert("cond_stage_model.model.text_projection".into(), vec![1024, 1024]);
    open(&sd2).unwrap();
    let sgm: Tensors =
        sd2.into_iter().map(|(n, s)| (n.replace("cond_stage_model.", "conditioner.embedders.0."), s)).collect();
    open(&sgm).unwrap();
}

#[test]
fn what_a_model_predicts_is_told_by_its_markers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let found = |tensors: &Tensors, metadata: &[(&str, &str)]| {
        let folder = ModelFolder::open(&sparse(&path, tensors, metadata)).unwrap();
        (folder.scheduler().prediction_type, folder.scheduler().rescale_betas_zero_snr)
    };
    let (epsilon, velocity) = (PredictionType::Epsilon, PredictionType::VPrediction);
    let mut sdxl = tensors(declared("sdxl"));
    assert_eq!(found(&sdxl, &[("modelspec.prediction_type", "v")]), (velocity, false));
    assert_eq!(found(&sdxl, &[("modelspec.prediction_type", "v-zsnr")]), (velocity, true));
    assert_eq!(found(&sdxl, &[("modelspec.predict_key", "epsilon")]), (epsilon, false));
    sdxl.insert("v_pred".into(), vec![0]);
    assert_eq!(found(&sdxl, &[]), (velocity, false));
    sdxl.insert("ztsnr".into(), vec![0]);
    assert_eq!(found(&sdxl, &[]), (velocity, true));
    let sd2 = tensors(declared("sd2"));
    assert_eq!(found(&sd2, &[]), (epsilon, false));
    std::fs::write(path.with_extension("yaml"), "model:\n  params:\n    parameterization: \"v\"\n").unwrap();
    assert_eq!(found(&sd2, &[]), (velocity, false));
    assert_eq!(ModelFolder::open(&path).unwrap().network().native_side(), 96);
}

#[test]
fn an_sd2_without_markers_is_told_by_the_spread_of_its_biases() {
    let dir = tempfile::tempdir().unwrap();
    let sd2 = tensors(declared("sd2"));
    let path = sparse(&dir.path().join("model.safetensors"), &sd2, &[]);
    let name = format!("{NETWORK}output_blocks.11.1.transformer_blocks.0.norm1.bias");
    let offset: i64 = sd2.iter().take_while(|(n, _)| **n != name).map(|(_, s)| 2 * s.iter().product::<i64>()).sum();
    let mut length = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut length).unwrap();
    let header = u64::from_le_bytes(length);
    // Alternating +-x has the population deviation x: 0x2e66 is 0.1 in float16, 0x2c29 is 0.065.
    for (bits, expected) in [(0x2e66_u16, PredictionType::VPrediction), (0x2c29, PredictionType::Epsilon)] {
        let values: Vec<u8> =
            (0..320).flat_map(|i| (bits | if i % 2 == 0 { 0 } else { 0x8000 }).to_le_bytes()).collect();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(8 + header + offset as u64)).unwrap();
        file.write_all(&values).unwrap();
        assert_eq!(ModelFolder::open(&path).unwrap().scheduler().prediction_type, expected);
    }
}

#[test]
fn checkpoints_of_other_kinds_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |tensors: &Tensors, metadata: &[(&str, &str)]| {
        let path = sparse(&dir.path().join("other.safetensors"), tensors, metadata);
        let message = ModelFolder::open(&path).unwrap_err().to_string();
        assert!(message.contains("other.safetensors"), "{message}");
        message
    };
    let (sd1, sdxl) = (tensors(declared("sd1")), tensors(declared("sdxl")));
    let with = |tensors: &Tensors, name: &str, shape: &[i64]| {
        let mut tensors = tensors.clone();
        tensors.insert(name.into(), shape.to_vec());
        tensors
    };
    let input = format!("{NETWORK}input_blocks.0.0.weight");
    for (channels, what) in
        [(9, "an inpainting model"), (8, "InstructPix2Pix"), (5, "steered by depth"), (7, "7 input channels")]
    {
        assert!(refused(&with(&sd1, &input, &[320, channels, 3, 3]), &[]).contains(what), "{what}");
    }
    for (base, name, what) in [
        (&sdxl, "edm_mean", "Playground"),
        (&sdxl, "edm_vpred.sigma_max", "EDM"),
        (&sd1, "model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        (&sd1, "model.diffusion_model.double_blocks.0.x", "FLUX"),
        (&sd1, "control_model.x", "ControlNet"),
        (&sdxl, "model.diffusion_model.time_embed.cond_proj.weight", "latent consistency"),
        (&sd1, "model.diffusion_model.label_emb.0.0.weight", "no family that is known"),
        (&sd1, "cond_stage_model.adapter.weight", "belong to no part that is known: cond_stage_model.adapter.weight"),
    ] {
        let message = refused(&with(base, name, &[2, 2]), &[]);
        assert!(message.contains(what), "{what}: {message}");
    }
    let refiner: Tensors = [
        ("input_blocks.0.0.weight", vec![384, 4, 3, 3]),
        ("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", vec![768, 1280]),
        ("label_emb.0.0.weight", vec![1536, 2560]),
    ]
    .map(|(name, shape)| (format!("{NETWORK}{name}"), shape))
    .into();
    assert!(refused(&refiner, &[]).contains("the SDXL refiner"));
    let distilled = |tensors: &Tensors, block: &str| -> Tensors {
        tensors.iter().filter(|(name, _)| !name.contains(block)).map(|(n, s)| (n.clone(), s.clone())).collect()
    };
    let message = refused(&distilled(&sdxl, "input_blocks.7.1.transformer_blocks.9."), &[]);
    assert!(message.contains("SSD-1B") && message.contains("input_blocks.7.1.transformer_blocks.9."), "{message}");
    assert!(refused(&distilled(&sd1, "first_stage_model."), &[]).contains("holds no VAE"));
    assert!(refused(&distilled(&sd1, "cond_stage_model."), &[]).contains("holds no text encoder"));
    assert!(refused(&distilled(&sd1, "first_stage_model.decoder.conv_out"), &[]).contains("2 tensors are missing"));
    let wide = with(&sd1, "first_stage_model.decoder.conv_in.weight", &[512, 16, 3, 3]);
    assert!(refused(&wide, &[]).contains("conv_in.weight has the shape [512, 16, 3, 3], expected [512, 4, 3, 3]"));
    let lora: Tensors = [("lora_unet_mid_block.lora_down.weight".into(), vec![4, 4])].into();
    assert!(refused(&lora, &[]).contains("give it with --lora"));
    let unknown: Tensors = [("encoder.block.0.weight".into(), vec![4, 4])].into();
    assert!(refused(&unknown, &[]).contains("1 tensors, the first is encoder.block.0.weight"));
    assert!(refused(&sd1, &[("modelspec.prediction_type", "x0")]).contains("prediction type \"x0\""));
    assert!(refused(&sd1, &[(HEADER, "{\"layout\": \"sd9\"}")]).contains("not what this program writes there"));
}

#[test]
fn a_truncated_checkpoint_and_a_pickle_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = sparse(&dir.path().join("model.safetensors"), &tensors(declared("sd1")), &[]);
    let length = path.metadata().unwrap().len();
    for cut in [length - 1, length / 2, 100_000, 7] {
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let message = ModelFolder::open(&path).unwrap_err().to_string();
        assert!(message.contains("model.safetensors") && message.contains("again"), "{cut}: {message}");
    }
    for name in ["model.ckpt", "model.bin", "renamed.safetensors"] {
        let path = dir.path().join(name);
        std::fs::write(&path, b"PK\x03\x04 and so on").unwrap();
        let message = ModelFolder::open(&path).unwrap_err().to_string();
        assert!(
            message.contains(name) && message.contains("never loaded") && message.contains("Convert it once"),
            "{message}"
        );
    }
}

#[test]
fn a_single_file_has_clips_vocabulary() {
    let [(_, merges), _, _, (_, vocabulary)] = tokenizer("!");
    let vocabulary: BTreeMap<String, i64> = serde_json::from_str(&vocabulary).unwrap();
    assert_eq!((vocabulary.len(), merges.lines().count()), (49408, 48895));
    // Ids of the published vocab.json (docs of CLIP; the same in open_clip).
    for (word, id) in
        [("!", 0), ("!</w>", 256), ("a</w>", 320), ("cat</w>", 2368), ("jekyll</w>", 49405), ("<|endoftext|>", 49407)]
    {
        assert_eq!(vocabulary[word], id, "{word}");
    }
}

#[test]
fn prompts_of_a_single_file_get_the_ids_of_the_published_tokenizers() {
    let ids = |pad: &str, prompt: &str| {
        let files: BTreeMap<&str, String> = tokenizer(pad).into_iter().collect();
        let text = |name: &str| Ok(files.get(name).cloned());
        let tokenizer = crate::text::Tokenizer::from_texts(Path::new("tokenizer"), &text, 77).unwrap();
        let ids = Vec::<i64>::try_from(tokenizer.encode(&[prompt]).unwrap().flatten(0, -1)).unwrap();
        assert_eq!((ids.len(), ids[0], ids.last()), (77, 49406, Some(&if pad == "!" { 0 } else { 49407 })));
        ids.into_iter().skip(1).take_while(|id| *id != 49407).collect::<Vec<_>>()
    };
    // transformers 5.23 with the vocabularies of SD1.5 and SD2.1, where `!` pads and is special.
    for (prompt, clip, openclip) in [
        ("a cat!", &[320, 2368, 256][..], &[320, 2368, 0][..]),
        ("wow! !! !!!", &[2781, 256, 748, 995], &[2781, 0, 0, 0, 0, 0, 0]),
        ("12345 x2", &[272, 273, 274, 275, 276, 343, 273], &[272, 273, 274, 275, 276, 343, 273]),
        ("it's IT'S", &[585, 568, 585, 568], &[585, 568, 585, 568]),
        ("cafe\u{301}", &[15304], &[15304]),
        ("Tom &amp; Jerry", &[2435, 261, 6259, 282, 9164], &[2435, 261, 6259, 282, 9164]),
        ("\u{1f600}", &[7334], &[7334]),
    ] {
        assert_eq!((ids("<|endoftext|>", prompt), ids("!", prompt)), (clip.to_vec(), openclip.to_vec()), "{prompt}");
    }
}
