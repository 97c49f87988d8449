//! Worlds for methods that sample while they train: prompts, and a judge that is as small as the model.

use super::{World, model};
use diffpref_native::Generator;
use pipelines::weights::write_safetensors;
use std::path::Path;
use tch::Tensor;

/// What the judge knows; the prompts of every world here.
pub const PROMPTS: [&str; 4] = ["red apple", "green apple", "black cat", "hot pepper"];

/// Writes a judge with random weights: it always says the same, and means nothing by it. `gain`: of its last layers.
pub fn judge(dir: &Path, gain: f64) {
    std::fs::create_dir_all(dir).unwrap();
    let config = serde_json::json!({
        "resolution": 16, "channels": [8, 8], "groups": 2, "norm_eps": 1e-5, "styles": ["flat", "shaded"], "names": PROMPTS,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut generator = Generator::cpu(11);
    let mut layer = |name: &str, weight: &[i64], gain: f64| {
        let scale = gain / (weight[1..].iter().product::<i64>() as f64).sqrt();
        let bias = Tensor::zeros([weight[0]], (tch::Kind::Float, tch::Device::Cpu));
        [(format!("{name}.weight"), generator.randn(weight) * scale), (format!("{name}.bias"), bias)]
    };
    let mut tensors = Vec::new();
    tensors.extend(layer("convs.0", &[8, 3, 3, 3], 1.0));
    tensors.extend(layer("convs.1", &[8, 8, 3, 3], 1.0));
    tensors.extend(layer("style", &[2, 16], gain));
    tensors.extend(layer("content", &[PROMPTS.len() as i64, 16], gain));
    for norm in ["norms.0", "norms.1"] {
        let ones = Tensor::ones([8], (tch::Kind::Float, tch::Device::Cpu));
        tensors.extend([(format!("{norm}.bias"), ones.zeros_like()), (format!("{norm}.weight"), ones)]);
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors, &[]).unwrap();
}

/// A method that samples while it trains, with what makes its iterations small.
#[derive(Clone, Copy)]
pub struct Method {
    pub name: &'static str,
    /// Of [method], and of [rollout] behind its prompts.
    keys: &'static str,
    rollout: &'static str,
    /// Units that an iteration keeps: `None` where a list may be drawn of trajectories of equal worth.
    pub units: u64,
    /// Updates of an iteration, 4 units each.
    pub updates: u64,
}

/// Two prompts of four, four steps of DDIM.
pub const METHODS: [Method; 7] = [
    Method { name: "d3po", keys: "", rollout: "", units: 8, updates: 2 },
    Method {
        name: "spo",
        keys: "threshold = 0\nskip_steps = 1\n",
        rollout: "trajectories = 2\n",
        units: 12,
        updates: 3,
    },
    Method { name: "tailorpo", keys: "denoise_ahead = 1\n", rollout: "trajectories = 2\n", units: 16, updates: 4 },
    Method { name: "ddpo", keys: "buffer = 4\n", rollout: "trajectories = 2\n", units: 16, updates: 4 },
    Method { name: "dpok", keys: "", rollout: "trajectories = 2\n", units: 16, updates: 4 },
    // Two of the first three steps of each of eight trajectories.
    Method {
        name: "grpo",
        keys: "timestep_fraction = 0.7\nkl_beta = 0.1\nratio_norm = true\n",
        rollout: "trajectories = 4\n",
        units: 16,
        updates: 4,
    },
    Method {
        name: "dense-reward",
        keys: "sampled_steps = 2\n",
        rollout: "trajectories = 3\nupdates_per_iteration = 2\n",
        units: 8,
        updates: 2,
    },
];

/// The method called `name`.
pub fn method(name: &str) -> Method {
    METHODS.into_iter().find(|method| method.name == name).unwrap()
}

/// A LoRA run of one step of four units, at 16 x 16 pixels, rated by the style of a judge of its own; what the prompt
/// names is watched.
pub fn world(method: Method) -> World {
    let world = World::new(0);
    judge(&world.path("judge"), 4.0);
    let path = |name: &str| world.path(name).display().to_string();
    let (cache, out, judge) = (path("cache"), path("run"), path("judge"));
    let Method { name, keys, rollout, .. } = method;
    let config = format!(
        "[model]\npath = \"{}\"\ndevice = \"cpu\"\n\
         [data]\nresolution = 16\ncache_dir = \"{cache}\"\nworkers = 1\n\
         [method]\nname = \"{name}\"\n{keys}\
         [lora]\nrank = 2\n\
         [optim]\nlr = 1e-2\n\
         [train]\nout = \"{out}\"\nsteps = 1\nmicro_batch = 2\ngrad_accum = 2\nthreads = 1\n\
         [sample]\nevery = 0\n\
         [log]\ntensorboard = false\n\
         [rollout]\nprompts = {PROMPTS:?}\nprompts_per_iteration = 2\nsteps = 4\nbatch = 3\n{rollout}\
         [reward]\nscorers = [{{ name = \"style\", path = \"{judge}\" }}]\nwatch = [{{ name = \"content\", path = \"{judge}\" }}]\n",
        model().display()
    );
    std::fs::write(world.path("run.toml"), config).unwrap();
    world
}
