//! LoRA files in every naming that is in use: formats of diffusers, PEFT and kohya, and what is refused.

use crate::support;
use pipelines::lora::{Lora, LoraTargets, Network};
use pipelines::models::{ClipTextConfig, ConfigFile, UNetConfig};
use pipelines::weights::write_safetensors;
use std::path::Path;
use tch::Tensor;

/// Modules of the tiny UNet and of a CLIP of two blocks: (network, path, shape of A, shape of B).
const MODULES: [(&str, &str, &[i64], &[i64]); 6] = [
    ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", &[2, 16], &[16, 2]),
    ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0", &[2, 16], &[16, 2]),
    ("unet", "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.0.proj", &[2, 16], &[128, 2]),
    ("unet", "down_blocks.1.attentions.0.proj_in", &[2, 16, 1, 1], &[16, 2, 1, 1]),
    ("unet", "down_blocks.0.resnets.0.conv1", &[2, 8, 3, 3], &[8, 2, 1, 1]),
    ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj", &[2, 32], &[32, 2]),
];

struct Case {
    dir: tempfile::TempDir,
    targets: LoraTargets,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        support::make_tiny_unet(&dir.path().join("unet"));
        support::make_component("clip_quick", &dir.path().join("text"));
        let unet = UNetConfig::read(&dir.path().join("unet")).unwrap();
        let targets = LoraTargets::new(&unet, &[ClipTextConfig::read(&dir.path().join("text")).unwrap()]);
        Self { dir, targets }
    }

    /// Writes a file whose tensors are called as `name(network, path, is it A)` says; alphas where given.
    fn write(&self, name: &dyn Fn(&str, &str, bool) -> String, alpha: Option<f32>, metadata: &[(&str, &str)]) -> Lora {
        let mut tensors = Vec::new();
        for (network, path, a, b) in MODULES {
            tensors.push((name(network, path, true), support::draw(&format!("{path}.a"), a)));
            tensors.push((name(network, path, false), support::draw(&format!("{path}.b"), b)));
            if let Some(alpha) = alpha {
                let stored = name(network, path, true).replace(".lora_down.weight", ".alpha");
                tensors.push((stored, Tensor::from(alpha)));
            }
        }
        self.read(&tensors, metadata).unwrap()
    }

    fn read(&self, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> pipelines::Result<Lora> {
        let file = self.dir.path().join("lora.safetensors");
        write_safetensors(&file, tensors, metadata).unwrap();
        Lora::read(&file, &self.targets)
    }

    fn refused(&self, tensors: &[(&str, &[i64])], metadata: &[(&str, &str)]) -> String {
        let tensors: Vec<_> = tensors.iter().map(|(n, s)| ((*n).to_string(), support::draw(n, s))).collect();
        let message = self.read(&tensors, metadata).unwrap_err().to_string();
        assert!(message.contains("lora.safetensors"), "{message}");
        message
    }
}

fn assert_holds_all(lora: &Lora, scale: f64) {
    let mut seen = 0;
    for (network, path, ..) in MODULES {
        let network = if network == "unet" { Network::Unet } else { Network::TextEncoder };
        let module = &lora.network(network).unwrap().modules[path];
        assert!(module.a.equal(&support::draw(&format!("{path}.a"), &module.a.size())), "{path}");
        assert!(module.b.equal(&support::draw(&format!("{path}.b"), &module.b.size())), "{path}");
        assert_eq!(module.scale, scale, "{path}");
        seen += 1;
    }
    assert_eq!(lora.networks().map(|(_, weights)| weights.modules.len()).sum::<usize>(), seen);
}

fn either<'a>(a: bool, first: &'a str, second: &'a str) -> &'a str {
    if a { first } else { second }
}

#[test]
fn the_names_of_diffusers_and_peft_are_read_with_and_without_prefixes() {
    let case = Case::new();
    let peft =
        |network: &str, path: &str, a: bool| format!("{network}.{path}.{}.weight", either(a, "lora_A", "lora_B"));
    assert_holds_all(&case.write(&peft, None, &[]), 1.0);
    let bare = |network: &str, path: &str, a: bool| match network {
        "unet" => format!("{path}.{}.weight", either(a, "lora_A", "lora_B")),
        _ => format!("{network}.{}.{}.weight", path.trim_start_matches("text_model."), either(a, "lora_A", "lora_B")),
    };
    assert_holds_all(&case.write(&bare, None, &[]), 1.0);
    let between =
        |network: &str, path: &str, a: bool| format!("{network}.{path}.lora.{}.weight", either(a, "down", "up"));
    assert_holds_all(&case.write(&between, None, &[]), 1.0);
    // unet.M.attn1.processor.to_q_lora.down.weight, ..to_out_lora..; text ..q_proj.lora_linear_layer.down.weight
    let old = |network: &str, path: &str, a: bool| {
        let way = either(a, "down", "up");
        match (network, path.rsplit_once(".to_")) {
            ("unet", Some((attention, projection))) => {
                format!("unet.{attention}.processor.to_{}_lora.{way}.weight", projection.trim_end_matches(".0"))
            }
            ("unet", None) => format!("unet.{path}.lora.{way}.weight"),
            _ => format!("{network}.{path}.lora_linear_layer.{way}.weight"),
        }
    };
    assert_holds_all(&case.write(&old, None, &[]), 1.0);
}

#[test]
fn kohyas_names_are_read_with_their_alphas() {
    let case = Case::new();
    let kohya = |network: &str, path: &str, a: bool| {
        let prefix = either(network == "unet", "lora_unet", "lora_te");
        format!("{prefix}_{}.{}.weight", path.replace('.', "_"), either(a, "lora_down", "lora_up"))
    };
    assert_holds_all(&case.write(&kohya, Some(1.0), &[]), 0.5);
    assert_holds_all(&case.write(&kohya, Some(8.0), &[]), 4.0);
    // No alpha means the rank.
    assert_holds_all(&case.write(&kohya, None, &[]), 1.0);
}

#[test]
fn the_scale_of_each_network_is_the_one_of_the_header() {
    let case = Case::new();
    let peft =
        |network: &str, path: &str, a: bool| format!("{network}.{path}.{}.weight", either(a, "lora_A", "lora_B"));
    let metadata = r#"{"unet.lora_alpha": 6, "unet.r": 2, "unet.alpha_pattern": {"down_blocks.0.resnets.0.conv1": 1}}"#;
    let lora = case.write(&peft, None, &[("lora_adapter_metadata", metadata)]);
    let scale = |network, path: &str| lora.network(network).unwrap().modules[path].scale;
    assert_eq!(scale(Network::Unet, MODULES[0].1), 3.0);
    assert_eq!(scale(Network::Unet, "down_blocks.0.resnets.0.conv1"), 0.5);
    assert_eq!(scale(Network::TextEncoder, MODULES[5].1), 1.0);
}

#[test]
fn a_peft_folder_is_read_with_its_configuration() {
    let case = Case::new();
    let dir = case.dir.path().join("adapter");
    std::fs::create_dir_all(&dir).unwrap();
    let (_, path, a, b) = MODULES[0];
    let tensors = [
        (format!("base_model.model.{path}.lora_A.weight"), support::draw("a", a)),
        (format!("base_model.model.{path}.lora_B.weight"), support::draw("b", b)),
    ];
    write_safetensors(&dir.join("adapter_model.safetensors"), &tensors, &[]).unwrap();
    let with = |config: &str| {
        std::fs::write(dir.join("adapter_config.json"), config).unwrap();
        Lora::read(&dir, &case.targets)
    };
    let scale = |config: &str| with(config).unwrap().network(Network::Unet).unwrap().modules[path].scale;
    assert_eq!(scale(r#"{"r": 2, "lora_alpha": 6}"#), 3.0);
    assert_eq!(scale(r#"{"r": 2, "lora_alpha": 6, "use_rslora": true}"#), 6.0 / 2.0_f64.sqrt());
    for (config, key) in [(r#"{"use_dora": true}"#, "use_dora"), (r#"{"bias": "all"}"#, "bias")] {
        let message = with(config).unwrap_err().to_string();
        assert!(message.contains("adapter_config.json") && message.contains(key), "{message}");
    }
}

#[test]
fn matrices_are_read_for_convolutions_of_one_pixel_and_the_reverse() {
    let case = Case::new();
    let (_, projection, a, b) = MODULES[3];
    let (_, query, c, d) = MODULES[0];
    let conv = |shape: &[i64]| [shape, &[1, 1]].concat();
    let tensors = [
        (format!("unet.{projection}.lora_A.weight"), support::draw("a", &a[..2])),
        (format!("unet.{projection}.lora_B.weight"), support::draw("b", &b[..2])),
        (format!("unet.{query}.lora_A.weight"), support::draw("c", &conv(c))),
        (format!("unet.{query}.lora_B.weight"), support::draw("d", &conv(d))),
    ];
    let lora = case.read(&tensors, &[]).unwrap();
    let module = |path: &str| &lora.network(Network::Unet).unwrap().modules[path];
    assert_eq!((module(projection).a.size(), module(query).a.size()), (a.to_vec(), c.to_vec()));
}

#[test]
fn adapters_of_other_kinds_are_refused_by_name() {
    let case = Case::new();
    let module = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q";
    for (end, what) in [
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector.weight", "DoRA"),
        ("hada_w1_a", "LoHa (LyCORIS)"),
        ("lokr_w1", "LoKr (LyCORIS)"),
        ("lora_mid.weight", "Tucker"),
        ("oft_blocks", "OFT (LyCORIS)"),
        ("a1.weight", "GLoRA (LyCORIS)"),
        ("on_input", "IA3 (LyCORIS)"),
        ("diff", "a full difference (LyCORIS)"),
        ("diff_b", "a full difference (LyCORIS)"),
        ("lora_B.bias", "a LoRA with bias"),
        ("something", "no LoRA known here"),
    ] {
        let message = case.refused(&[(&format!("{module}.{end}"), &[2, 2])], &[]);
        assert!(message.contains(what) && message.contains(end), "{what}: {message}");
    }
    assert!(case.refused(&[("bundle_emb.style.string_to_param.*", &[2, 2])], &[]).contains("a bundled embedding"));
}

#[test]
fn a_lora_for_another_architecture_is_refused_with_both_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lora.safetensors");
    let standard = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/standard");
    let targets = |family: &str| {
        let text = std::fs::read_to_string(standard.join(format!("{family}.json"))).unwrap();
        let files: serde_json::Value = serde_json::from_str(&text).unwrap();
        let config = |name: &str| ConfigFile::parse(Path::new(name), &files[name].to_string()).unwrap();
        let text = ClipTextConfig::from_file(config("text_encoder/config.json")).unwrap();
        LoraTargets::new(&UNetConfig::from_file(config("unet/config.json")).unwrap(), &[text])
    };
    let key = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k";
    let refused = |family: &str, name: &str, shape: &[i64]| {
        write_safetensors(&path, &[(name.to_string(), support::draw(name, shape))], &[]).unwrap();
        Lora::read(&path, &targets(family)).unwrap_err().to_string()
    };
    let kohya = format!("lora_unet_{key}.lora_down.weight");
    for (family, width, theirs, ours) in [
        ("sd1", 2048, "Stable Diffusion XL", "Stable Diffusion 1"),
        ("sd1", 1024, "Stable Diffusion 2", "Stable Diffusion 1"),
        ("sd2", 768, "Stable Diffusion 1", "Stable Diffusion 2"),
        ("sdxl", 768, "Stable Diffusion 1", "Stable Diffusion XL"),
        ("sdxl", 4096, "a model with 4096 wide prompt embeddings", "Stable Diffusion XL"),
    ] {
        let message = refused(family, &kohya, &[4, width]);
        assert!(message.contains(&format!("of {theirs}")) && message.contains(&format!("not of {ours}")), "{message}");
    }
    let flux = refused("sdxl", "transformer.single_blocks.0.attn.to_q.lora_A.weight", &[4, 3072]);
    assert!(flux.contains("a transformer model (such as SD3 or FLUX"), "{flux}");
    let second = refused("sd1", "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", &[4, 1280]);
    assert!(second.contains("no second text encoder"), "{second}");
}

#[test]
fn kohyas_block_numbers_of_sdxl_and_diffusers_names_are_the_same_modules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lora.safetensors");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/standard/sdxl.json");
    let files: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let config = ConfigFile::parse(Path::new("config.json"), &files["unet/config.json"].to_string()).unwrap();
    let targets = LoraTargets::new(&UNetConfig::from_file(config).unwrap(), &[]);
    // formats of kohya's sd-scripts: the numbers of CompVis' blocks; some trainers write diffusers' names.
    for (numbered, named, a, b) in [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            [4, 640],
            [640, 4],
        ),
        (
            "middle_block_1_transformer_blocks_9_ff_net_2",
            "mid_block_attentions_0_transformer_blocks_9_ff_net_2",
            [4, 5120],
            [1280, 4],
        ),
        ("output_blocks_5_1_proj_in", "up_blocks_1_attentions_2_proj_in", [4, 640], [640, 4]),
        ("output_blocks_0_0_emb_layers_1", "up_blocks_0_resnets_0_time_emb_proj", [4, 1280], [1280, 4]),
        ("label_emb_0_0", "add_embedding_linear_1", [4, 2816], [1280, 4]),
    ] {
        let read = |module: &str| {
            let tensors = [
                (format!("lora_unet_{module}.lora_down.weight"), support::draw("a", &a)),
                (format!("lora_unet_{module}.lora_up.weight"), support::draw("b", &b)),
            ];
            write_safetensors(&path, &tensors, &[]).unwrap();
            let mut lora = Lora::read(&path, &targets).unwrap();
            lora.take(Network::Unet).modules.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(read(numbered), read(named));
        assert_eq!(read(named)[0].replace('.', "_"), named);
    }
    let both = ["input_blocks_4_1_proj_in", "down_blocks_1_attentions_0_proj_in"];
    let tensors = both.map(|m| (format!("lora_unet_{m}.lora_down.weight"), support::draw("a", &[4, 640])));
    write_safetensors(&path, &tensors, &[]).unwrap();
    assert!(Lora::read(&path, &targets).unwrap_err().to_string().contains("twice, in two namings"));
}

#[test]
fn what_a_merge_adds_is_what_the_adapter_adds_and_damage_is_refused() {
    let case = Case::new();
    let (_, path, a, b) = MODULES[4];
    let name = format!("lora_unet_{}", path.replace('.', "_"));
    let pair = |alpha: f32| {
        vec![
            (format!("{name}.lora_down.weight"), support::draw("a", a)),
            (format!("{name}.lora_up.weight"), support::draw("b", b)),
            (format!("{name}.alpha"), Tensor::from(alpha)),
        ]
    };
    let lora = case.read(&pair(1.0), &[]).unwrap();
    let weight = support::draw("w", &[8, 8, 3, 3]);
    let merged = lora.merged(Network::Unet, &format!("{path}.weight"), weight.shallow_clone()).unwrap();
    let product = support::draw("b", b).view([8, 2]).matmul(&support::draw("a", a).view([2, 72])).view([8, 8, 3, 3]);
    assert!(merged.allclose(&(&weight + product * 0.5), 1e-6, 1e-6, false));
    assert!(lora.merged(Network::Unet, "conv_in.weight", weight.shallow_clone()).unwrap().equal(&weight));
    let message = case.read(&pair(f32::NAN), &[]).unwrap_err().to_string();
    assert!(message.contains("is NaN, expected a number"), "{message}");
}
