//! What the disk itself takes to make bytes durable: the least that an ack after `fdatasync` can take.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Error;
use crate::stats::micros;

/// Bytes written before each sync where little is: a small group of small requests.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;

/// The file that is overwritten, allocated before, so that only data is synced.
const FILE_BYTES: u64 = 16 << 20;

/// Writes `block` bytes and syncs them, again and again for `time`, in a file of its own in `dir`; returns microseconds.
///
/// One follows the other at once, or where `every` is told is due so long after the one before was: a processor that sleeps
/// in between takes several times as long to hear of what the disk has done.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn probe(
    dir: &Path,
    time: Duration,
    block: usize,
    every: Option<Duration>,
) -> Result<Histogram<u64>, Error> {
    let path = dir.join(format!("device-probe-{:08x}", rand::random::<u32>()));
    let told = write_and_sync(&path, time, block.clamp(1, FILE_BYTES as usize), every);
    let _ = std::fs::remove_file(&path);
    told
}

fn write_and_sync(path: &Path, time: Duration, bytes: usize, every: Option<Duration>) -> Result<Histogram<u64>, Error> {
    let mut file = File::create(path).map_err(Error::file(path))?;
    let block = vec![0x5a; bytes];
    for _ in 0..FILE_BYTES / bytes as u64 {
        file.write_all(&block).map_err(Error::file(path))?;
    }
    file.rewind().map_err(Error::file(path))?;
    file.sync_all().map_err(Error::file(path))?;
    let mut took = micros();
    let began = Instant::now();
    let mut due = began;
    while began.elapsed() < time || took.is_empty() {
        if let Some(every) = every {
            due += every;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if file.stream_position().map_err(Error::file(path))? + bytes as u64 > FILE_BYTES {
            file.seek(SeekFrom::Start(0)).map_err(Error::file(path))?;
        }
        let start = Instant::now();
        file.write_all(&block).map_err(Error::file(path))?;
        file.sync_data().map_err(Error::file(path))?;
        took.saturating_record(start.elapsed().as_micros() as u64);
    }
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_written_has_a_sync_time_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let took = probe(dir.path(), Duration::from_millis(20), BLOCK_BYTES, None).expect("can be written");
        assert!(!took.is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).expect("is there").count(), 0);
        assert!(probe(&dir.path().join("missing"), Duration::ZERO, BLOCK_BYTES, None).is_err());
    }

    #[test]
    fn at_a_pace_there_are_no_more_syncs_than_it_allows() {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (time, every) = (Duration::from_millis(20), Duration::from_millis(5));
        let took = probe(dir.path(), time, BLOCK_BYTES, Some(every)).expect("can be written");
        assert!((1..=4).contains(&took.len()), "{}", took.len());
    }
}
