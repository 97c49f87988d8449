//! `diffpref doctor`

use super::terminal;
use anyhow::Result;
use diffpref::machine::devices::cuda_devices;
use pipelines::Dtype;
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

/// Whether libtorch_cuda was loaded; the error names the missing library.
pub type Cuda = std::result::Result<bool, String>;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  diffpref doctor --json")]
pub struct Args {
    /// Result as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, cuda: &Cuda) -> Result<()> {
    let mut facts = Map::new();
    facts.insert("diffpref".into(), json!(env!("CARGO_PKG_VERSION")));
    facts.insert("libtorch".into(), json!(diffpref_native::LIBTORCH_VERSION));
    facts.insert("libtorch_cpu".into(), json!(mapped_library("libtorch_cpu.so")));
    let cuda = match cuda {
        Ok(true) => json!("loaded"),
        Ok(false) => json!("not there: CPU set-up (TORCH=cuda make setup gets it)"),
        Err(text) => json!(format!("does not load: {text}")),
    };
    facts.insert("libtorch_cuda".into(), cuda);
    facts.insert("cuda_devices".into(), json!(cuda_devices()));
    facts.insert("cores".into(), json!(std::thread::available_parallelism().map_or(1, |n| n.get())));
    facts.insert("threads".into(), json!(tch::get_num_threads()));
    facts.insert("avx2".into(), json!(avx2()));
    facts.insert(
        "draws".into(),
        json!(if avx2() {
            "as on other machines with AVX2"
        } else {
            "float32 randn differs by up to 2e-6 from machines with AVX2"
        }),
    );
    facts.insert("precision".into(), json!(precisions()));
    let cache = diffpref::machine::disk::default_cache_dir();
    facts.insert("cache_dir".into(), json!(cache.display().to_string()));
    facts.insert(
        "cache_free_gib".into(),
        json!(
            diffpref::machine::disk::free_bytes(&cache)
                .map(|b| (b as f64 / f64::from(1 << 30) * 10.0).round() / 10.0)
                .ok()
        ),
    );
    if args.json {
        return terminal::print(&format!("{}\n", serde_json::to_string_pretty(&facts)?));
    }
    terminal::print(&facts.iter().map(|(name, value)| lines(name, value)).collect::<String>())
}

/// One line per fact; a group of facts has one line per fact below its name.
fn lines(name: &str, value: &Value) -> String {
    match value {
        Value::Object(group) => {
            let below = group.iter().map(|(name, value)| lines(&format!("  {name}"), value));
            std::iter::once(format!("{name}\n")).chain(below).collect()
        }
        Value::String(text) => format!("{name:16} {text}\n"),
        Value::Null => format!("{name:16} unknown\n"),
        other => format!("{name:16} {other}\n"),
    }
}

/// Path of a library mapped by the running process.
fn mapped_library(name: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|l| l.split_whitespace().nth(5).filter(|p| p.ends_with(name)).map(str::to_string))
}

fn avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A small product in each precision, on each device: works, or libtorch's message.
fn precisions() -> Value {
    let mut out = Map::new();
    let mut devices = vec![Device::Cpu];
    devices.extend((0..cuda_devices()).map(Device::Cuda));
    for device in devices {
        for dtype in [Dtype::Float32, Dtype::BFloat16, Dtype::Float64] {
            let tried = Tensor::f_ones([8, 8], (dtype.kind(), device)).and_then(|t| t.f_matmul(&t));
            let answer =
                tried.map_or_else(|e| e.to_string().lines().next().unwrap_or("fails").to_string(), |_| "works".into());
            out.insert(format!("{device:?} {dtype}").to_lowercase(), json!(answer));
        }
    }
    Value::Object(out)
}
