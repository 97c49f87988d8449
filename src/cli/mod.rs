//! One thin file per command, and their shared parts: signals, the progress sink, exit codes.

mod cache;
mod child;
mod choices;
mod compare;
mod data;
mod doctor;
mod eval;
mod export;
mod generate;
mod keys;
mod merge;
mod methods;
mod model;
mod painting;
mod pairs;
mod run;
mod runs;
mod score;
mod scorers;
mod signal_point;
mod sweep;
mod sweep_worker;
mod terminal;
mod train;
mod train_scorer;

use clap::{Parser, Subcommand};
use diffpref::keys::ConfigError;
use diffpref::progress::{Signal, Stop, Stopped};
use doctor::Cuda;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "diffpref",
    version,
    about = "Aligns Stable Diffusion models with preferences",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model on preferences
    Train(train::Args),
    /// Train a preference scorer on pairs or lists
    TrainScorer(train_scorer::Args),
    /// Paint pictures from prompts
    Generate(Box<generate::Args>),
    /// Compare models on the same prompts and seeds
    Eval(eval::Args),
    /// Rate pictures by scorers
    Score(score::Args),
    /// Make pairs, ranked lists or pairs to be annotated from rated pictures
    Pairs(pairs::Args),
    /// Look at, check, convert and pre-encode a data set
    Data(data::Args),
    /// Look at and clean up what is stored in the cache folder
    Cache(cache::Args),
    /// Run a chain of commands: generate, score, pairs, train, eval
    Run(run::Args),
    /// Run many trainings from one file, ranked
    Sweep(sweep::Args),
    /// Take the next free trial of a sweep until none is left
    SweepWorker(sweep_worker::Args),
    /// List, show, compare and remove runs
    Runs(runs::Args),
    /// List the scorers: measures, units, ranges, files, licences
    Scorers(scorers::Args),
    /// Write a model or a LoRA in another format
    Export(export::Args),
    /// Add models and LoRAs: soups, task vectors, negative models, LoRAs merged, joined and extracted
    Merge(merge::Args),
    /// List keys of the configuration: values, defaults, meanings
    Keys(keys::Args),
    /// List methods: data, needs, cost, keys
    Methods(methods::Args),
    /// Check what works here: libtorch, devices, precision, disk
    Doctor(doctor::Args),
}

/// Parses the arguments, runs the command, and turns its result into an exit code: 0 ok, 1 failed, 2 wrong arguments or
/// configuration, 130 and 143 stopped by a signal.
pub fn run(cuda: Cuda) -> ExitCode {
    let cli = Cli::parse();
    if let Err(text) = &cuda {
        terminal::say(&format!("warning: libtorch_cuda.so does not load, continuing without CUDA: {text}"));
    }
    let stop = match signal_point::watched(watch_signals()) {
        Ok(stop) => stop,
        Err(text) => {
            terminal::say(&format!("error: {text}"));
            return ExitCode::from(2);
        }
    };
    // Exceeding `ulimit -f` becomes an error with a name instead of a fatal signal. SAFETY: SIG_IGN installs no
    // handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    std::panic::set_hook(Box::new(|_| {}));
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| dispatch(cli.command, &cuda, &stop)));
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            terminal::say(&format!("error: {}", one_line_each(&error)));
            exit_code(&error)
        }
        Err(panic) => {
            terminal::say(&format!("error: {}", panic_text(panic.as_ref())));
            ExitCode::from(1)
        }
    }
}

fn dispatch(command: Command, cuda: &Cuda, stop: &Stop) -> anyhow::Result<()> {
    match command {
        Command::Train(args) => train::run(&args, stop),
        Command::TrainScorer(args) => train_scorer::run(&args, stop),
        Command::Generate(args) => generate::run(&args, stop),
        Command::Eval(args) => eval::run(&args, stop),
        Command::Score(args) => score::run(&args, stop),
        Command::Pairs(args) => pairs::run(args, stop),
        Command::Data(args) => data::run(&args, stop),
        Command::Cache(args) => cache::run(&args),
        Command::Run(args) => self::run::run(&args, stop),
        Command::Sweep(args) => sweep::run(&args, stop),
        Command::SweepWorker(args) => sweep_worker::run(&args, stop),
        Command::Runs(args) => runs::run(args),
        Command::Scorers(args) => scorers::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Merge(args) => merge::run(args, stop),
        Command::Keys(args) => keys::run(&args),
        Command::Methods(args) => methods::run(&args),
        Command::Doctor(args) => doctor::run(&args, cuda),
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(Stopped(signal)) = error.downcast_ref::<Stopped>() {
        return ExitCode::from(signal.exit_code());
    }
    let wrong_input = error.chain().any(|e| e.is::<ConfigError>());
    ExitCode::from(if wrong_input { 2 } else { 1 })
}

/// The error with its causes, without libtorch's C++ stack.
fn one_line_each(error: &anyhow::Error) -> String {
    let parts: Vec<String> = error.chain().map(|e| without_backtrace(&e.to_string())).collect();
    let text = parts.join(": ");
    out_of_memory(&text).unwrap_or(text)
}

/// Remedy for an out-of-memory error of libtorch: a panic of the forward pass, an error of recomputed parts and of
/// the backward pass.
fn out_of_memory(text: &str) -> Option<String> {
    let is_short = text.contains("out of memory") || text.contains("can't allocate memory");
    is_short.then(|| {
        format!(
            "the device ran out of memory: {text}. Lower train.micro_batch or data.resolution, or set train.gradient_checkpointing = \"all\"; \
             of generate lower --batch, --width or --height."
        )
    })
}

fn without_backtrace(text: &str) -> String {
    text.split("\nException raised from").next().unwrap_or(text).trim_end().to_string()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = without_backtrace(&text.unwrap_or("unknown").replace("\\n", "\n"));
    out_of_memory(&text).unwrap_or_else(|| format!("internal error, please report it: {text}"))
}

/// The first signal stops the work at the next point, the second ends the process at once.
fn watch_signals() -> Stop {
    let stop = Stop::default();
    let flag = stop.clone();
    let Ok(mut signals) = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        child::PARENT_DIED,
    ]) else {
        return stop;
    };
    std::thread::spawn(move || {
        for raw in signals.forever() {
            let signal = if raw == signal_hook::consts::SIGINT { Signal::Interrupt } else { Signal::Terminate };
            if flag.requested().is_some() && raw == child::PARENT_DIED {
                continue;
            }
            if flag.requested().is_some() {
                // Without destructors: libtorch's would race with running work.
                signal_hook::low_level::exit(i32::from(signal.exit_code()));
            }
            terminal::say("stopping after the current step; press Ctrl-C again to quit now");
            flag.request(signal);
        }
    });
    stop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_met_with_what_to_lower_whether_it_came_as_a_panic_or_as_an_error() {
        let told = "the device ran out of memory: libtorch: CUDA out of memory. Tried to allocate 2 GiB. Lower train.micro_batch or \
                    data.resolution, or set train.gradient_checkpointing = \"all\"; of generate lower --batch, --width or --height.";
        let text = "libtorch: CUDA out of memory. Tried to allocate 2 GiB";
        assert_eq!(panic_text(&format!("{text}\\nException raised from malloc")), told);
        assert_eq!(one_line_each(&anyhow::anyhow!("{text}\nException raised from malloc")), told);
        let cpu = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory";
        assert!(panic_text(&cpu.to_string()).contains("the device ran out of memory"));
        assert_eq!(one_line_each(&anyhow::anyhow!("no such file").context("cannot read")), "cannot read: no such file");
    }
}
