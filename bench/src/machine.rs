//! What the figures were taken on, who used the processor meanwhile, and who disturbed.

use std::fs;

use portcullis::runtime::clock;
use serde_json::{Value, json};

/// /proc counts time in hundredths of a second on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What the figures were taken on and when (in UTC), and how busy it was when the run began.
pub(crate) fn facts() -> Value {
    let processor = read("/proc/cpuinfo");
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_matches([' ', '\t', ':']));
    let now = clock::now().to_string();
    json!({
        "day": now.split('T').next(),
        "cores": cores(),
        "processor": processor,
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load at start": load(),
    })
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The load of the last minute, five minutes and quarter of an hour.
pub(crate) fn load() -> Vec<f64> {
    let told = read("/proc/loadavg");
    told.split_whitespace()
        .take(3)
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// Seconds of processor time that a process has used, and with it the children that it has seen end.
///
/// # Panics
/// When there is no such process.
pub(crate) fn processor_seconds(pid: u32) -> f64 {
    let told = read(&format!("/proc/{pid}/stat"));
    // The name in parentheses may contain anything, so the fields are counted from behind it.
    let (_, fields) = told
        .rsplit_once(')')
        .unwrap_or_else(|| panic!("no process {pid}"));
    let ticks = fields.split_whitespace().skip(FIELDS_BEFORE_TIMES).take(4);
    ticks.filter_map(|it| it.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17; the first behind the name is 3.
const FIELDS_BEFORE_TIMES: usize = 11;

/// Resident memory of a process, in KiB.
///
/// # Panics
/// When there is no such process.
pub(crate) fn resident_kib(pid: u32) -> f64 {
    let told = read(&format!("/proc/{pid}/status"));
    told.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("no process {pid}"))
}

/// Watches how much of the machine went to processes that have no part in the measurement.
pub(crate) struct Watch {
    ours: Vec<u32>,
    machine: Machine,
    used: f64,
}

impl Watch {
    /// From now on; this process and `others` are ours.
    pub(crate) fn begin(others: &[u32]) -> Self {
        let mut ours = vec![std::process::id()];
        ours.extend(others);
        Self {
            machine: Machine::now(),
            used: ours.iter().map(|pid| processor_seconds(*pid)).sum(),
            ours,
        }
    }

    /// The share of the machine's processor time until now, in percent, that went to others: their
    /// processes, and whatever the host of a virtual machine took.
    pub(crate) fn end(self) -> f64 {
        let now = Machine::now();
        let used = self
            .ours
            .iter()
            .map(|pid| processor_seconds(*pid))
            .sum::<f64>()
            - self.used;
        let busy = now.busy - self.machine.busy;
        100.0 * (busy - used).max(0.0) / (now.all - self.machine.all).max(f64::MIN_POSITIVE)
    }
}

/// Seconds of processor time since the machine started, all processors together.
struct Machine {
    /// In processes of anybody, or taken by the host. Interrupts belong to nobody and are left out.
    busy: f64,
    all: f64,
}

impl Machine {
    fn now() -> Self {
        let told = read("/proc/stat");
        let times: Vec<f64> = told
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|it| it.parse().ok())
            .collect();
        // proc_stat(5): user nice system idle iowait irq softirq steal; guests' time is in user's already.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = times[..] else {
            panic!("/proc/stat is not as we know it: {told}");
        };
        let busy = user + nice + system + steal;
        Self {
            busy: busy / TICKS_PER_SECOND,
            all: (busy + idle + iowait + irq + softirq) / TICKS_PER_SECOND,
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_the_processor_and_disturbs_nobody_but_others() {
        let before = processor_seconds(std::process::id());
        let watch = Watch::begin(&[]);
        let mut sum = 0_u64;
        while processor_seconds(std::process::id()) - before < 0.1 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        assert!((0.0..=100.0).contains(&watch.end()), "{sum}");
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_kib(std::process::id()) > 100.0);
    }
}
