//! Copies of damaged stretches, for whoever wants to know what was in them.
//!
//! *Layout.* `quarantine/<first number of the log file, 20 digits>-<offset in it>.damaged`: the bytes as they were; what the
//! disk would not read is `0xff`. The copies are never read, grow no further once made, and may be removed at any time.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;

use tracing::warn;

use crate::disk::{Disk, DiskFile, write_all_at};

const DIR: &str = "quarantine";
const BUFFER_BYTES: usize = 64 << 10;

/// Copies a stretch of a log file aside, unless that was done before. What fails is logged: it must not stop a replay.
pub(crate) fn keep(disk: &dyn Disk, dir: &Path, file: &dyn DiskFile, first: u64, offset: u64, bytes: u64) {
    let name = format!("{first:020}-{offset}.damaged");
    match copy(disk, &dir.join(DIR), &name, file, offset, bytes) {
        Ok(false) => {}
        Ok(true) => {
            warn!(dir = %dir.display(), %name, bytes, "a damaged part of the journal was copied to `quarantine`")
        }
        Err(error) => {
            warn!(dir = %dir.display(), %name, bytes, %error, "a damaged part of the journal could not be copied")
        }
    }
}

fn copy(disk: &dyn Disk, dir: &Path, name: &str, file: &dyn DiskFile, offset: u64, bytes: u64) -> io::Result<bool> {
    disk.create_dirs(dir)?;
    if disk.list(dir)?.iter().any(|known| known == name) {
        return Ok(false);
    }
    let part = dir.join(format!("{name}.tmp"));
    let target = disk.create(&part)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let read = match file.read_at(&mut buffer[..length], offset + done) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => {
                let skip = length.min(4096);
                buffer[..skip].fill(0xff);
                skip
            }
        };
        write_all_at(target.as_ref(), &mut [IoSlice::new(&buffer[..read])], done)?;
        done += read as u64;
    }
    target.sync_all()?;
    disk.rename(&part, &dir.join(name))?;
    disk.sync_dir(dir)?;
    Ok(true)
}
