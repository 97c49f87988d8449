//! Who holds a claim, and whether it is still alive.

use crate::machine::hashes;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Folder of the workers' locks in the sweep's.
const WORKERS: &str = "workers";
/// Linux: differs after every start of a machine, and between machines.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    /// The running kernel: on the same one, a lock says whether the worker lives.
    pub boot: String,
}

/// This process as a worker: it holds its lock while it lives.
pub struct Alive {
    pub owner: Owner,
    path: PathBuf,
    _lock: File,
}

impl Alive {
    /// Registers this process in a sweep's folder.
    ///
    /// # Errors
    /// An unwritable folder.
    pub fn begin(folder: &Path) -> Result<Self> {
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_string();
        let since = crate::machine::clock::unix_seconds();
        let name = hashes::of_bytes(format!("{boot} {} {since}", std::process::id()).as_bytes());
        let name = name.get(..16).unwrap_or(&name).to_string();
        let path = path_of(folder, &name);
        let workers = folder.join(WORKERS);
        std::fs::create_dir_all(&workers).with_context(|| format!("cannot make {}", workers.display()))?;
        let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { owner: Owner { name, boot }, path, _lock: lock })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(WORKERS).join(format!("{name}.lock"))
}

/// Whether a worker on this kernel is gone; `None` for one on another machine.
fn is_gone(folder: &Path, owner: &Owner, boot: &str) -> Option<bool> {
    if owner.boot.is_empty() || owner.boot != boot {
        return None;
    }
    match File::open(path_of(folder, &owner.name)) {
        Ok(lock) => Some(lock.try_lock().is_ok()),
        Err(error) => (error.kind() == std::io::ErrorKind::NotFound).then_some(true),
    }
}

/// Watches the claims of others. A claim is dead when its worker's process on this kernel is gone, or when its count of
/// heartbeats stays the same for the length of the lease on this process's own monotonic clock.
pub struct Watch {
    lease: Duration,
    seen: BTreeMap<String, (i64, Instant)>,
}

impl Watch {
    pub fn new(lease: Duration) -> Self {
        Self { lease, seen: BTreeMap::new() }
    }

    /// Whether a claim is dead. `key` names its work; `me`: the asking worker.
    pub fn is_dead(&mut self, folder: &Path, key: &str, owner: &Owner, beats: i64, me: &Owner, now: Instant) -> bool {
        match is_gone(folder, owner, &me.boot) {
            // A process that lives on this machine also holds the lock of its run: nobody could take over.
            Some(gone) => gone,
            None => self.is_silent(&format!("{key} {}", owner.name), beats, now),
        }
    }

    fn is_silent(&mut self, key: &str, beats: i64, now: Instant) -> bool {
        match self.seen.get(key) {
            Some((before, since)) if *before == beats => now.duration_since(*since) >= self.lease,
            _ => {
                self.seen.insert(key.into(), (beats, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_elsewhere_is_dead_when_its_count_stands_still_for_the_lease_whatever_the_clocks_say() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(Duration::from_secs(60));
        let me = Owner { name: "me".into(), boot: "here".into() };
        let other = Owner { name: "other".into(), boot: "elsewhere".into() };
        let start = Instant::now();
        let mut dead = |beats: i64, after: u64| {
            watch.is_dead(folder.path(), "trial 1", &other, beats, &me, start + Duration::from_secs(after))
        };
        assert!(!dead(7, 0));
        assert!(!dead(7, 59));
        assert!(!dead(8, 70), "a heartbeat renews the lease");
        assert!(!dead(8, 129));
        assert!(dead(8, 130));
    }

    #[test]
    fn a_worker_here_is_dead_when_its_lock_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Alive::begin(folder.path()).unwrap();
        let me = Owner { name: "me".into(), boot: alive.owner.boot.clone() };
        assert_eq!(is_gone(folder.path(), &alive.owner, &me.boot), Some(false));
        let (owner, path) = (alive.owner.clone(), alive.path.clone());
        drop(alive);
        assert!(!path.exists());
        assert_eq!(is_gone(folder.path(), &owner, &me.boot), Some(true));
    }
}
