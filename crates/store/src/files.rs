//! Where segment files are kept: the [`SegmentFiles`] port, and local directories.
//!
//! *Invariants.* A file has its final name only once it is complete and synced, so a name that ends in `.parquet` is a whole
//! segment whatever happened. `object_store` never syncs local files, which is why writing does not go through it.
//!
//! *Cost.* A segment costs one `fsync` of the file and one of its directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

/// The port. Paths are relative, with `/`. All calls block, and may come from several threads at a time for different files.
pub trait SegmentFiles: Send + Sync + 'static {
    /// Starts a file that will be at `path` once it is committed, and not before.
    ///
    /// # Errors
    /// The file cannot be made.
    fn create(&self, path: &str) -> io::Result<Box<dyn SegmentFile>>;

    /// Reads a whole file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &str) -> io::Result<Bytes>;

    /// Opens a file to read parts of it.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, path: &str) -> io::Result<Arc<dyn SegmentRead>>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes what unfinished writes left behind and lists the segment files there are, with their sizes.
    ///
    /// # Errors
    /// They cannot be listed.
    fn recover(&self) -> io::Result<Vec<(String, u64)>>;

    /// Returns the bytes that may still be written; the largest number where there is no telling.
    ///
    /// # Errors
    /// The system does not say.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Returns where the files are read by queries.
    fn reader(&self) -> Arc<dyn ObjectStore>;
}

/// A file being written. Dropping it leaves nothing under its name.
pub trait SegmentFile: Write + Send {
    /// Makes the file durable, then visible under its name, then that durable too. Returns its size.
    ///
    /// # Errors
    /// It cannot be made durable: it must be taken as not written.
    fn commit(self: Box<Self>) -> io::Result<u64>;
}

/// A file that is read in parts, from any thread.
pub trait SegmentRead: Send + Sync {
    /// Reads `length` bytes from `start` on.
    ///
    /// # Errors
    /// They cannot be read, or there are fewer.
    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes>;
}

impl SegmentRead for File {
    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; length];
        FileExt::read_exact_at(self, &mut bytes, start)?;
        Ok(Bytes::from(bytes))
    }
}

/// Segment files below a local directory.
#[derive(Debug)]
pub struct LocalFiles {
    root: PathBuf,
    reader: Arc<LocalFileSystem>,
}

const FINISHED: &str = "parquet";
const UNFINISHED: &str = "tmp";

impl LocalFiles {
    /// Uses the directory `root`, creating it where it is missing.
    ///
    /// # Errors
    /// It cannot be created or is not a directory.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_directory(&root)?;
        let reader = LocalFileSystem::new_with_prefix(&root).map_err(io::Error::other)?;
        Ok(Self { root, reader: Arc::new(reader) })
    }
}

/// Creates a directory and those above it, each synced into the one that holds it.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(above)?;
    match fs::create_dir(path) {
        Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => return Err(problem),
        _ => {}
    }
    sync_directory(above)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Calls `visit` with every file in the directories below `root`; links are not followed.
fn walk(root: &Path, visit: &mut dyn FnMut(&Path, u64) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path(), entry.metadata()?.len())?;
        }
    }
    Ok(())
}

impl SegmentFiles for LocalFiles {
    fn create(&self, path: &str) -> io::Result<Box<dyn SegmentFile>> {
        let target = self.root.join(path);
        create_directory(target.parent().unwrap_or(&self.root))?;
        let unfinished = target.with_extension(format!("{FINISHED}.{UNFINISHED}"));
        let file = File::create(&unfinished)?;
        Ok(Box::new(LocalFile { file, unfinished, target, committed: false }))
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        fs::read(self.root.join(path)).map(Bytes::from)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn SegmentRead>> {
        Ok(Arc::new(File::open(self.root.join(path))?))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let target = self.root.join(path);
        match fs::remove_file(&target) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
            _ => {}
        }
        // The directory of a day goes with its last file; while others are left this fails, as it should.
        if let Some(day) = target.parent().filter(|day| *day != self.root) {
            let _ = fs::remove_dir(day);
        }
        Ok(())
    }

    fn recover(&self) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        walk(&self.root, &mut |path, bytes| {
            match path.extension().and_then(|e| e.to_str()) {
                Some(UNFINISHED) => fs::remove_file(path)?,
                Some(FINISHED) => {
                    let below = path.strip_prefix(&self.root).unwrap_or(path);
                    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                    found.push((parts.join("/"), bytes));
                }
                _ => {}
            }
            Ok(())
        })?;
        found.sort();
        Ok(found)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn reader(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.reader) as Arc<dyn ObjectStore>
    }
}

struct LocalFile {
    file: File,
    unfinished: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl Write for LocalFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SegmentFile for LocalFile {
    fn commit(mut self: Box<Self>) -> io::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        fs::rename(&self.unfinished, &self.target)?;
        self.committed = true;
        sync_directory(self.target.parent().unwrap_or(Path::new(".")))?;
        Ok(bytes)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: what is left is removed at the next opening.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}
