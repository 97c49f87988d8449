//! `diffpref generate` stopped by a signal, between pictures and between the steps of one.

use super::pictures::{golden, index};
use crate::support::{diffpref, signalled};
use diffpref::painting::{Look, Painter, Picture, PromptMemory};
use diffpref::progress::{Progress, Signal, Stop, Stopped};
use pipelines::families::ModelFolder;
use pipelines::weights::LoadOptions;
use serde_json::Value;
use tch::{Device, Kind};

#[test]
fn a_signal_stops_after_the_picture_in_hand_and_resume_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut command = diffpref();
    command.args(["generate", "--prompt", "a cat", "--steps", "2", "--device", "cpu", "--num-images", "6", "--model"]);
    command.arg(golden().join("model")).arg("--out").arg(&out);
    let (code, said) = signalled("INT sample 2", &mut command);
    assert_eq!(code, Some(130), "{said}");
    let made = index(&out).len();
    assert!((2..6).contains(&made), "{made}");
    let pictures =
        std::fs::read_dir(&out).unwrap().filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "png");
    assert_eq!(pictures.count(), made);
    let more = (made + 1).to_string();
    let resume = [
        "generate",
        "--resume",
        "--prompt",
        "a cat",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--num-images",
        &more,
        "--json",
        "--model",
    ];
    let mut command = diffpref();
    command.args(resume).arg(golden().join("model")).arg("--out").arg(&out).env("HOME", dir.path());
    let report: Value = serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap();
    assert_eq!((&report["painted"], &report["skipped"]), (&1.into(), &made.into()));
}

/// Asks to stop as soon as a step is said, and remembers what was said.
struct StopAt<'a> {
    step: &'a str,
    stop: &'a Stop,
    said: std::cell::RefCell<Vec<String>>,
}

impl Progress for StopAt<'_> {
    fn begin(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64, note: &str) {
        self.said.borrow_mut().push(note.to_string());
        if note == self.step {
            self.stop.request(Signal::Terminate);
        }
    }
    fn end(&self) {}
    fn line(&self, _: &str) {}
}

#[test]
fn a_signal_stops_between_two_steps_of_a_picture() {
    let folder = ModelFolder::open(&golden().join("model")).unwrap();
    let options = LoadOptions { device: Device::Cpu, kind: Kind::Float };
    let memory = PromptMemory::new(folder.load_text(&options).unwrap(), 0, folder.empty_side());
    let (denoiser, vae) = (folder.load_denoiser(None, &options).unwrap(), folder.load_vae(None, &options).unwrap());
    let painter = Painter {
        denoiser: &denoiser,
        negative_network: None,
        vae: &vae,
        scheduler: folder.scheduler(),
        conditioning: Box::new(|prompt| memory.conditioning(prompt)),
        negative: Box::new(|prompt| memory.negative(prompt)),
        device: options.device,
        kind: options.kind,
    };
    let stop = Stop::default();
    let progress = StopAt { step: "step 3/50", stop: &stop, said: Default::default() };
    let look = Look { width: 32, height: 32, batch: 2, ..Look::default() };
    let pictures = [0, 1, 2].map(|seed| Picture { prompt: "a cat", seed });
    let mut finished = |_, _| panic!("no picture is finished");
    let error = painter.paint(&pictures, &look, None, &progress, &stop, &mut finished).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Stopped(Signal::Terminate))), "{error}");
    assert_eq!(*progress.said.borrow(), ["step 1/50", "step 2/50", "step 3/50"]);
}
