//! What the machine gives this process: file descriptors and memory. Taken and looked at once, at
//! start.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Open files: RLIMIT_NOFILE.
    pub descriptors: u64,
    /// Bytes of memory: the machine's, or our control group's where that is less.
    pub memory: u64,
}

impl Machine {
    /// Takes as many open files as the process may have, and looks at the machine as it is now. The
    /// soft limit is 1,024 in most places, for the sake of programs that use select(2).
    ///
    /// # Errors
    /// If it does not say how much memory it has.
    pub fn look() -> Result<Self, String> {
        let given = getrlimit(Resource::Nofile);
        let all = Rlimit {
            current: given.maximum,
            ..given
        };
        let descriptors = match setrlimit(Resource::Nofile, all) {
            Ok(()) => all.current,
            // What it has is enough to go on with, and stands in the log.
            Err(_) => given.current,
        }
        .unwrap_or(u64::MAX);
        let meminfo = fs::read_to_string(MEMINFO).map_err(|error| format!("{MEMINFO}: {error}"))?;
        let total = total_memory(&meminfo).ok_or_else(|| format!("{MEMINFO}: no MemTotal"))?;
        let group = fs::read_to_string(CGROUP_MEMORY)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(u64::MAX);
        Ok(Self {
            descriptors,
            memory: total.min(group),
        })
    }
}

/// See proc(5).
const MEMINFO: &str = "/proc/meminfo";
/// The limit of a container's memory, as it is seen inside (control groups v2); absent, or `max`,
/// where there is none.
const CGROUP_MEMORY: &str = "/sys/fs/cgroup/memory.max";

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24683520 kB\nMemFree:        1 kB\n";
        assert_eq!(total_memory(text), Some(24_683_520 * 1024));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
        assert_eq!(total_memory("MemTotal: many kB\n"), None);
    }

    #[test]
    fn this_machine_has_some_of_both() {
        let machine = Machine::look().unwrap();
        assert!(machine.descriptors > 0 && machine.memory > 1 << 20);
    }
}
