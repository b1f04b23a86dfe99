//! The few file operations that the log needs: so few that a test can play the disk, and fail it where it hurts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::Errno;
use tracing::debug;

use crate::blocks::{Aligned, BLOCK_BYTES, write_blocks};

/// Directories and names.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Makes a directory and its parents, durably.
    fn create_dirs(&self, dir: &Path) -> io::Result<()>;

    /// Takes the directory for this process until the value is dropped; `WouldBlock` where another has it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;

    /// Lists the names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes an empty file, or empties the one there is.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes an empty log file, which is written in whole blocks: see [`DiskFile::block_bytes`].
    fn create_log(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read and write.
    fn open_mut(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of any other file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Opens a directory, so that its names can be made durable when there may be no descriptor left to open it.
    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.open_dir(dir)?.sync()
    }
}

/// A directory that is open.
pub(crate) trait Directory: Send + Sync {
    /// Makes the names in it durable.
    fn sync(&self) -> io::Result<()>;
}

impl Directory for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A directory that is taken.
pub(crate) trait DirLock: Send + Sync {
    /// Says whether the directory is still the one that was taken.
    fn is_held(&self) -> bool;
}

/// The lock file of a directory, held.
struct Held(File);

impl DirLock for Held {
    fn is_held(&self) -> bool {
        // Where the system does not say, a commit will.
        DiskFile::is_linked(&self.0).unwrap_or(true)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process has it open too, from when it is made until it runs its program.
        if let Err(error) = rustix::fs::flock(&self.0, FlockOperation::Unlock) {
            debug!(%error, "the journal's directory is given up once its lock file is closed");
        }
    }
}

/// One open file.
pub(crate) trait DiskFile: Send + Sync {
    /// Returns its length.
    fn len(&self) -> io::Result<u64>;

    /// Reads some bytes; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns what offset, length and address of a write have to be multiples of.
    fn block_bytes(&self) -> usize {
        1
    }

    /// Writes some bytes, of at most [`SLICES_MAX`] slices.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Sets space aside up to `length` and makes the file that long, with zeros.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes its bytes durable, and as much else as reading them back takes.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes all of it durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Says whether the file still has a name: what is written to one that was removed is gone with the process.
    fn is_linked(&self) -> io::Result<bool>;
}

/// What Linux takes in one call.
pub(crate) const SLICES_MAX: usize = 1024;

/// Writes all of `slices` at `offset`.
pub(crate) fn write_all_at(file: &dyn DiskFile, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    while !slices.is_empty() {
        let written = match file.write_at(&slices[..slices.len().min(SLICES_MAX)], offset) {
            Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the system wrote nothing")),
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        offset += written as u64;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

/// Says whether an error means that space ran out.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Says whether an error means that the process may not make a file as long as that.
pub(crate) fn is_too_long(error: &io::Error) -> bool {
    error.kind() == ErrorKind::FileTooLarge
}

/// Says whether an error means that the process, or the system, has too much open or in memory right now.
pub(crate) fn is_scarce(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Says what helps against an error of these.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "raise `ulimit -n`, or set `ingest.connections_max` lower",
        Some(Errno::NFILE) => "the system has too many files open: raise `fs.file-max`",
        Some(Errno::NOMEM) => "the system has no memory left: set `memory_limit` lower",
        _ => "raise `ulimit -f`, or set `store.journal_file` lower",
    }
}

fn hold(dir: &Path) -> io::Result<Held> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Held(file))
}

/// The disk of this machine.
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn create_dirs(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => match dir.parent() {
                Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
                    self.create_dirs(parent)?;
                    fs::create_dir(dir)?;
                }
                _ => return Err(error),
            },
            Err(error) => return Err(error),
        }
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        Ok(Box::new(hold(dir)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        Ok(Box::new(file))
    }

    fn create_log(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let flags = OFlags::DIRECT.bits().cast_signed();
        let direct =
            OpenOptions::new().create(true).truncate(true).read(true).write(true).custom_flags(flags).open(path);
        let file = DirectFile(match direct {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::InvalidInput => return self.create(path),
            Err(error) => return Err(error),
        });
        // Some say yes when a file is opened and no when it is written.
        match write_blocks(&file, Aligned::zeroed(BLOCK_BYTES).as_slice(), 0) {
            Ok(()) => {
                DiskFile::set_len(&file, 0)?;
                Ok(Box::new(file))
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => self.create(path),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_mut(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn open_dir(&self, dir: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(File::open(dir)?))
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, slices, offset)?)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self, FallocateFlags::empty(), 0, length)?)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstat(self)?.st_nlink > 0)
    }
}

/// A file that is written past the page cache.
struct DirectFile(File);

impl DiskFile for DirectFile {
    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.0)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.0, bytes, offset)
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        DiskFile::write_at(&self.0, slices, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        DiskFile::allocate(&self.0, length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        DiskFile::set_len(&self.0, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        DiskFile::sync_data(&self.0)
    }

    fn sync_all(&self) -> io::Result<()> {
        DiskFile::sync_all(&self.0)
    }

    fn is_linked(&self) -> io::Result<bool> {
        DiskFile::is_linked(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_given_up_while_a_child_process_that_is_being_made_still_has_its_lock_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let held = hold(dir.path()).expect("nobody has it");
        // What a child has between `fork` and `exec`: another descriptor of the same open file.
        let inherited = held.0.try_clone().expect("is open");
        assert_eq!(hold(dir.path()).map(|_| ()).expect_err("is held").kind(), ErrorKind::WouldBlock);
        drop(held);
        let next = hold(dir.path()).expect("it was given up");
        drop(inherited);
        assert_eq!(hold(dir.path()).map(|_| ()).expect_err("is held").kind(), ErrorKind::WouldBlock);
        drop(next);
    }
}
