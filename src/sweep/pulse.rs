//! Heartbeats of a claim, in a thread of their own.

use super::ledger::Ledger;
use super::owner::Owner;
use super::work::Work;
use crate::progress::{Signal, Stop};
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Heartbeats per lease: several may be late before another worker takes over.
const PER_LEASE: f64 = 6.0;

/// Counts heartbeats of a claim until it is dropped.
pub struct Pulse {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<AtomicBool>,
}

impl Pulse {
    /// Begins. When another worker has taken the claim over, `stop` is requested, and nothing of the work counts.
    ///
    /// # Errors
    /// An unusable database.
    pub fn begin(folder: &Path, work: &Work, owner: &Owner, lease_s: f64, stop: &Stop) -> Result<Self> {
        let (ledger, _) = Ledger::open(folder, &mut |_| {})?;
        let (end, ended) = channel::<()>();
        let lost = Arc::new(AtomicBool::new(false));
        let (work, owner, stop, flag) = (*work, owner.clone(), stop.clone(), lost.clone());
        let pause = Duration::from_secs_f64(lease_s / PER_LEASE);
        let beat = move || {
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                // A heartbeat that cannot be written is late; the next one may succeed.
                if let Ok(false) = ledger.beat(&work, &owner) {
                    flag.store(true, SeqCst);
                    stop.request(Signal::Terminate);
                    return;
                }
            }
        };
        Ok(Self { end: Some(end), thread: Some(std::thread::spawn(beat)), lost })
    }

    /// Whether another worker has taken the claim over.
    pub fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
