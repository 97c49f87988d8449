//! Free memory: of the machine and of the container, or of a CUDA device.

use std::path::{Path, PathBuf};
use tch::Device;

/// Bytes that can be allocated on a device; `None` if unknown.
pub fn on(device: Device) -> Option<u64> {
    match device {
        Device::Cuda(index) => u64::try_from(diffpref_native::cuda_free_bytes(index).ok()?).ok(),
        _ => host(Path::new("/")),
    }
}

/// Minimum of the kernel's available memory and of the free memory of every control group above this process.
fn host(root: &Path) -> Option<u64> {
    let meminfo = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let available = value(&meminfo, "MemAvailable:")?.saturating_mul(1024);
    Some(groups(root).iter().filter_map(|group| left_in(group)).fold(available, u64::min))
}

/// Folders of this process's memory groups and of all groups above, for version 2 (`0::/path`) and 1
/// (`n:memory:/path`).
fn groups(root: &Path) -> Vec<PathBuf> {
    let mounted = root.join("sys/fs/cgroup");
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => mounted.clone(),
            _ if controllers.split(',').any(|name| name == "memory") => mounted.join("memory"),
            _ => continue,
        };
        // Inside a container the path may be that of the host; the group's own folder is then the mount itself.
        let below = Path::new(path.trim_start_matches('/'));
        folders.extend(below.ancestors().map(|path| base.join(path)));
    }
    folders
}

/// Free memory of a group: its limit minus its use without the page cache, which is reclaimed first.
fn left_in(group: &Path) -> Option<u64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cache = value(&stat, "total_inactive_file").or_else(|| value(&stat, "inactive_file")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

/// The number behind a key at the start of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::trim))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n");

    #[test]
    fn the_narrowest_of_machine_and_groups_counts() {
        let free = |files: &[(&str, &str)]| host(machine(&[&[MEMINFO], files].concat()).path());
        assert_eq!(free(&[]), Some(4000 << 10));
        let second = ("proc/self/cgroup", "0::/a/b\n");
        let unlimited = [("sys/fs/cgroup/a/b/memory.max", "max\n"), ("sys/fs/cgroup/a/b/memory.current", "5000\n")];
        assert_eq!(free(&[&[second], &unlimited[..]].concat()), Some(4000 << 10));
        let above = [("sys/fs/cgroup/a/memory.max", "9000\n"), ("sys/fs/cgroup/a/memory.current", "6000\n")];
        let cache = ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500\n");
        assert_eq!(free(&[&[second, cache], &unlimited[..], &above].concat()), Some(3500));
        let first = ("proc/self/cgroup", "4:cpuset:/x\n3:cpu,memory:/host/path\n");
        let group = "sys/fs/cgroup/memory/memory";
        let (limit, used) = (format!("{group}.limit_in_bytes"), format!("{group}.usage_in_bytes"));
        assert_eq!(free(&[first, (&limit, "8000"), (&used, "9000")]), Some(0), "never below nothing");
    }

    #[test]
    fn this_machine_says_what_it_has() {
        assert!(on(Device::Cpu).is_some_and(|bytes| bytes > 1 << 20));
    }
}
