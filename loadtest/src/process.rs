//! What a process and its children cost: processor time, memory and file descriptors, as Linux tells them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Ticks a second in `/proc/PID/stat`: fixed at 100 for every Linux program, whatever the kernel uses inside.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of a process and everything it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time since it started, of children that have ended too.
    pub(crate) cpu: Duration,
    /// Resident memory now.
    pub(crate) rss_bytes: u64,
}

/// What `/proc/PID/stat` says of one process.
struct Stat {
    state: char,
    parent: u32,
    /// Its own time.
    ticks: u64,
    /// That of children that have ended.
    ended_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces; the state is the first field behind it, the four times the 12th to 15th.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)?,
        ended_ticks: number(13)? + number(14)?,
    })
}

/// Reads what `pid` and its descendants have used; `None` where it is gone or the system has no `/proc`.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let root = stat(pid)?;
    let mut ticks = root.ticks + root.ended_ticks;
    let mut rss_bytes = resident(pid);
    for (child, stat) in descendants(pid) {
        ticks += stat.ticks + stat.ended_ticks;
        rss_bytes += resident(child);
    }
    Some(Usage { cpu: Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND), rss_bytes })
}

/// Zero for a process that has ended and is not waited for yet: its times can still be read, its memory is gone.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn descendants(pid: u32) -> Vec<(u32, Stat)> {
    // Most have none, and a process says so itself without a walk over all processes.
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = |path: std::path::PathBuf| std::fs::read_to_string(path.join("children")).ok();
    if tasks.map(|task| children(task.path())).all(|listed| listed.is_some_and(|listed| listed.trim().is_empty())) {
        return Vec::new();
    }
    let numbered = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(numbered);
    let mut by_parent: HashMap<u32, Vec<(u32, Stat)>> = HashMap::new();
    for (pid, stat) in all.filter_map(|pid| Some((pid, stat(pid)?))) {
        by_parent.entry(stat.parent).or_default().push((pid, stat));
    }
    let mut found = by_parent.remove(&pid).unwrap_or_default();
    let mut at = 0;
    while at < found.len() {
        found.extend(by_parent.remove(&found[at].0).unwrap_or_default());
        at += 1;
    }
    found
}

/// Says whether `pid` has ended, waited for or not.
pub(crate) fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| matches!(stat.state, 'Z' | 'X'))
}

/// Counts the open file descriptors of `pid`.
pub(crate) fn descriptors(pid: u32) -> Option<u64> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// One moment of a process that is watched.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Moment {
    /// Seconds since the watch began.
    pub seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

/// What was seen while a process was watched.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Track {
    /// The most resident memory, read every 50 ms.
    pub rss_max_bytes: u64,
    /// One moment a second.
    pub moments: Vec<Moment>,
}

/// A running watch.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Track>,
}

impl Watch {
    pub(crate) fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(watch(pid, Arc::clone(&stop)));
        Self { stop, task }
    }

    pub(crate) async fn end(self) -> Track {
        // Relaxed: nothing is handed over beside it.
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap_or_default()
    }
}

async fn watch(pid: u32, stop: Arc<AtomicBool>) -> Track {
    let began = Instant::now();
    let mut track = Track::default();
    let mut next_moment = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        if let Some(usage) = usage(pid) {
            track.rss_max_bytes = track.rss_max_bytes.max(usage.rss_bytes);
            let seconds = began.elapsed();
            if seconds >= next_moment {
                next_moment += Duration::from_secs(1);
                let descriptors = descriptors(pid).unwrap_or(0);
                track.moments.push(Moment { seconds: seconds.as_secs_f64(), rss_bytes: usage.rss_bytes, descriptors });
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    track
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn work() {
        let sum = (0..200_000_000_u64).fold(0_u64, |sum, at| sum.wrapping_add(std::hint::black_box(at)));
        std::hint::black_box(sum);
    }

    #[test]
    fn a_process_sees_its_own_memory_work_and_files() {
        work();
        let usage = usage(std::process::id()).expect("this process is there");
        assert!(usage.cpu > Duration::ZERO);
        assert!(usage.rss_bytes > 1 << 20);
        assert!(descriptors(std::process::id()).expect("this process is there") >= 3);
    }

    #[test]
    fn the_work_of_children_counts_and_can_be_read_after_their_end() {
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("sh -c '{script}'; {script}; exit 0")])
            .spawn()
            .expect("there is a shell");
        while !has_ended(child.id()) {
            std::thread::yield_now();
        }
        let both = usage(child.id()).expect("not waited for yet").cpu;
        let own = stat(child.id()).expect("not waited for yet").ticks;
        assert!(both.as_secs_f64() > own as f64 / TICKS_PER_SECOND, "{both:?} with the child, {own} ticks without");
        child.wait().expect("it ended");
        assert!(usage(child.id()).is_none());
    }
}
