//! Names of the UNet, with the prefix `model.diffusion_model.` in a file.

/// Shape parameters that determine the numbering of the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UNetLayout {
    /// `layers_per_block`, the same for every level.
    pub layers: usize,
    /// Whether a level of the way up has attention, innermost first.
    pub up_attention: Vec<bool>,
}

impl UNetLayout {
    /// The layout of a UNet with an equal number of layers in all levels; None otherwise, because the original layout
    /// cannot number those.
    pub fn of(layers_per_block: &[i64], up_attention: &[bool]) -> Option<Self> {
        let layers = usize::try_from(*layers_per_block.first()?).ok()?;
        let even = layers_per_block.iter().all(|n| usize::try_from(*n) == Ok(layers));
        even.then(|| Self { layers, up_attention: up_attention.to_vec() })
    }
}

/// Names outside blocks, up to `.weight` and `.bias`.
const SINGLE: [(&str, &str); 7] = [
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];

const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

/// The original name of a parameter or module of diffusers' UNet; None without a place in the layout.
pub fn unet_name(name: &str, layout: &UNetLayout) -> Option<String> {
    if let Some(found) = SINGLE.iter().find_map(|(ours, theirs)| renamed(name, ours, theirs)) {
        return Some(found);
    }
    if let Some(rest) = name.strip_prefix("mid_block.") {
        let (part, index, rest) = indexed(rest)?;
        return match (part, index) {
            ("resnets", 0 | 1) => Some(format!("middle_block.{}.{}", 2 * index, resnet(rest)?)),
            ("attentions", 0) => Some(format!("middle_block.1.{rest}")),
            _ => None,
        };
    }
    let (way, block, rest) = indexed(name)?;
    let (part, index, rest) = indexed(rest)?;
    let each = layout.layers + 1;
    match (way, part) {
        ("down_blocks", "resnets") => Some(format!("input_blocks.{}.0.{}", each * block + index + 1, resnet(rest)?)),
        ("down_blocks", "attentions") => Some(format!("input_blocks.{}.1.{rest}", each * block + index + 1)),
        ("down_blocks", "downsamplers") => {
            Some(format!("input_blocks.{}.0.{}", each * (block + 1), renamed(rest, "conv", "op")?))
        }
        ("up_blocks", "resnets") => Some(format!("output_blocks.{}.0.{}", each * block + index, resnet(rest)?)),
        ("up_blocks", "attentions") => Some(format!("output_blocks.{}.1.{rest}", each * block + index)),
        ("up_blocks", "upsamplers") => {
            let place = if *layout.up_attention.get(block)? { 2 } else { 1 };
            Some(format!("output_blocks.{}.{place}.{rest}", each * block + layout.layers))
        }
        _ => None,
    }
}

fn resnet(rest: &str) -> Option<String> {
    RESNET.iter().find_map(|(ours, theirs)| renamed(rest, ours, theirs))
}

/// `name` with `theirs` for `ours`, where `ours` is the whole name or all up to a point.
fn renamed(name: &str, ours: &str, theirs: &str) -> Option<String> {
    let rest = name.strip_prefix(ours)?;
    (rest.is_empty() || rest.starts_with('.')).then(|| format!("{theirs}{rest}"))
}

/// The three parts of `part.3.rest`.
fn indexed(name: &str) -> Option<(&str, usize, &str)> {
    let (part, rest) = name.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    Some((part, index.parse().ok()?, rest))
}
