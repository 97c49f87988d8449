//! Processes of this program that a command starts: they stop when it is stopped, and end when it ends.

use anyhow::Result;
use diffpref::progress::{Signal, Stop};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Sent by the kernel to a child when its parent dies, once per thread of the parent: the first one stops the work like
/// SIGTERM, and no further one ends it at once.
pub const PARENT_DIED: i32 = signal_hook::consts::SIGUSR1;

/// How often a running child is looked after.
const POLL: Duration = Duration::from_millis(50);

/// A group of its own: a terminal's Ctrl-C reaches the parent alone, which passes it on once. A killed parent must not
/// leave a child at work in a folder that the next call continues in.
pub fn bound(command: &mut Command) -> &mut Command {
    command.process_group(0);
    ends_with_its_parent(command);
    command
}

#[cfg(target_os = "linux")]
fn ends_with_its_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: prctl with these arguments only sets the signal that the parent's end sends.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, PARENT_DIED) };
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called, which is safe there.
    unsafe { command.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn ends_with_its_parent(_: &mut Command) {}

/// Waits for the end of all children. A signal to this process is passed on once: the children stop at their next point
/// and keep their work.
pub fn wait(mut children: Vec<Child>, stop: &Stop) -> Result<Vec<ExitStatus>> {
    let mut told = false;
    loop {
        let ended = children.iter_mut().map(Child::try_wait).collect::<std::io::Result<Option<Vec<_>>>>()?;
        if let Some(ended) = ended {
            return Ok(ended);
        }
        if let (Some(signal), false) = (stop.requested(), told) {
            told = true;
            children.iter_mut().for_each(|child| pass_on(child, signal));
        }
        std::thread::sleep(POLL);
    }
}

fn pass_on(child: &mut Child, signal: Signal) {
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    let signal = match signal {
        Signal::Interrupt => libc::SIGINT,
        Signal::Terminate => libc::SIGTERM,
    };
    // SAFETY: kill sends a signal to our own child, which has not been waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}
