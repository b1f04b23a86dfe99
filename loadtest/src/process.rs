//! What a process costs: its processor time and memory, as Linux tells them.

use std::time::Duration;

/// Ticks a second in `/proc/PID/stat`: fixed at 100 for every Linux program, whatever the kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system time since it started.
    pub(crate) cpu: Duration,
    /// Resident memory now.
    pub(crate) rss_bytes: u64,
}

/// Reads what `pid` has used; `None` where it is gone or the system has no `/proc`.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th fields behind it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |key: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Usage { cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND), rss_bytes: kib("VmRSS:")? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_sees_its_own_memory_and_work() {
        let mut sum = 0u64;
        for at in 0..200_000_000u64 {
            sum = sum.wrapping_add(std::hint::black_box(at));
        }
        std::hint::black_box(sum);
        let usage = usage(std::process::id()).expect("this process is there");
        assert!(usage.cpu > Duration::ZERO);
        assert!(usage.rss_bytes > 1 << 20);
    }
}
