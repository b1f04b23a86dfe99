//! A disk in memory that loses what was not synced.
//!
//! *Invariants.* After power loss a byte that was synced is what it was, unless it was written again; then it is the old or the
//! new one. A byte that was only written is new, old or garbage, in pieces cut at any place. A name that was not synced
//! is there or not. A failed sync marks everything as clean and makes nothing durable, as Linux does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Random;
use crate::disk::{DirLock, Directory, Disk, DiskFile};

/// Small, so that groups begin and end in the middle of one as often as not.
const BLOCK_BYTES: usize = 64;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One write takes only some of the bytes.
    ShortWrite,
    /// One write is interrupted before it takes any.
    Interrupted,
    /// From here on there is no space, until it is given back.
    Full,
    /// From here on nothing can be opened, until something is given back.
    Descriptors,
    /// From here on no file may grow beyond what the longest is by then, until that is given back.
    FileLength,
    /// Writes and syncs fail from here on.
    Broken,
    /// One sync fails, and the bytes it was for are forgotten.
    SyncFails,
    /// The machine stops; the operation may have happened in part.
    Power,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Whether that durable byte was ever written, so that garbage has no business there.
    kept: Vec<bool>,
    dirty: Vec<Range<usize>>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(PathBuf, usize),
    Remove(PathBuf),
}

#[derive(Debug)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    random: Random,
    fault: Option<(u64, Fault)>,
    full: bool,
    no_descriptors: bool,
    length_max: Option<usize>,
    broken: bool,
    dead: bool,
    syncs: u64,
}

/// The disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

fn error(kind: ErrorKind) -> io::Error {
    io::Error::new(kind, "simulated")
}

fn no_descriptor() -> io::Error {
    io::Error::from_raw_os_error(24)
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl State {
    fn give_back(&mut self) {
        (self.full, self.no_descriptors, self.length_max) = (false, false, None);
    }

    /// Counts one changing operation and returns the fault that meets it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        if self.dead || self.broken {
            return Err(broken());
        }
        let Some((left, fault)) = &mut self.fault else { return Ok(None) };
        if *left > 0 {
            *left -= 1;
            return Ok(None);
        }
        let fault = *fault;
        self.fault = None;
        match fault {
            Fault::Full => self.full = true,
            Fault::Descriptors => self.no_descriptors = true,
            Fault::FileLength => self.length_max = self.inodes.iter().map(|inode| inode.now.len()).max(),
            Fault::Broken => {
                self.broken = true;
                return Err(broken());
            }
            Fault::Power => self.dead = true,
            Fault::ShortWrite | Fault::Interrupted | Fault::SyncFails => {}
        }
        Ok(Some(fault))
    }
}

impl Inode {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[at..end].copy_from_slice(bytes);
        self.dirty.push(at..end);
    }

    fn set_len(&mut self, length: usize) {
        self.now.resize(length, 0);
        for range in &mut self.dirty {
            range.start = range.start.min(length);
            range.end = range.end.min(length);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        self.kept.resize(self.now.len(), false);
        for range in self.dirty.drain(..) {
            self.durable[range.clone()].copy_from_slice(&self.now[range.clone()]);
            self.kept[range].fill(true);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        let length = match random.below(3) {
            0 => self.durable.len(),
            1 => self.now.len(),
            _ => {
                self.durable.len().min(self.now.len())
                    + random.below(self.durable.len().abs_diff(self.now.len()) as u64 + 1) as usize
            }
        };
        let mut after = self.durable.clone();
        after.resize(length.max(self.durable.len()), 0);
        for range in std::mem::take(&mut self.dirty) {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at + 1 + random.below(200) as usize);
                let fate = random.below(8);
                for byte in at..end.min(after.len()) {
                    match fate {
                        0..=4 => after[byte] = self.now[byte],
                        5 if !self.kept.get(byte).copied().unwrap_or(false) => after[byte] = random.next() as u8,
                        _ => {}
                    }
                }
                at = end;
            }
        }
        // A file that was cut and not synced may keep its old length; one that grew may not.
        after.truncate(length);
        self.kept.resize(length, false);
        self.durable.clone_from(&after);
        self.now = after;
    }
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            random: Random(seed),
            fault: None,
            full: false,
            no_descriptors: false,
            length_max: None,
            broken: false,
            dead: false,
            syncs: 0,
        })))
    }

    /// Lets `fault` happen after so many changing operations.
    pub(crate) fn schedule(&self, after: u64, fault: Fault) {
        self.0.lock().fault = Some((after, fault));
    }

    pub(crate) fn give_space_back(&self) {
        self.0.lock().give_back();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// Ends the process: nothing more reaches the disk, and what the kernel had stays.
    pub(crate) fn kill(&self) {
        self.0.lock().broken = true;
    }

    pub(crate) fn restart_process(&self) {
        let mut state = self.0.lock();
        state.give_back();
        (state.broken, state.fault) = (false, None);
    }

    /// Cuts the power and starts the machine again.
    pub(crate) fn lose_power(&self) {
        let mut state = self.0.lock();
        let State { inodes, names, durable_names, changes, random, .. } = &mut *state;
        for inode in inodes {
            inode.lose_power(random);
        }
        for change in changes.drain(..) {
            if random.one_in(2) {
                match change {
                    NameChange::Put(path, inode) => durable_names.insert(path, inode),
                    NameChange::Remove(path) => durable_names.remove(&path),
                };
            }
        }
        names.clone_from(durable_names);
        state.give_back();
        (state.dead, state.broken, state.fault) = (false, false, None);
    }

    /// Returns how often bytes or names were synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// Returns the names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().map(|path| path.display().to_string()).collect()
    }
}

impl Disk for SimDisk {
    fn create_dirs(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _dir: &Path) -> io::Result<Box<dyn DirLock>> {
        Ok(Box::new(Taken))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = &self.0.lock().names;
        let inside = names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock();
        state.step()?;
        if state.no_descriptors {
            return Err(no_descriptor());
        }
        if state.full {
            return Err(error(ErrorKind::StorageFull));
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.names.insert(path.to_owned(), inode);
        state.changes.push(NameChange::Put(path.to_owned(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn create_log(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.0.lock().names.get(path).ok_or_else(|| error(ErrorKind::NotFound))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open_mut(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        let inode = state.names.remove(from).ok_or_else(|| error(ErrorKind::NotFound))?;
        state.names.insert(to.to_owned(), inode);
        state.changes.push(NameChange::Remove(from.to_owned()));
        state.changes.push(NameChange::Put(to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.step()?;
        state.names.remove(path).ok_or_else(|| error(ErrorKind::NotFound))?;
        state.changes.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn open_dir(&self, _dir: &Path) -> io::Result<Box<dyn Directory>> {
        if self.0.lock().no_descriptors {
            return Err(no_descriptor());
        }
        Ok(Box::new(self.clone()))
    }
}

impl Directory for SimDisk {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if matches!(state.step()?, Some(Fault::SyncFails | Fault::Power)) {
            return Err(broken());
        }
        state.syncs += 1;
        state.changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

/// Nobody else is there to take it.
struct Taken;

impl DirLock for Taken {
    fn is_held(&self) -> bool {
        true
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        let rest = state.inodes[self.inode].now.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        bytes[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.0.lock();
        let fault = state.step()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        if fault == Some(Fault::Interrupted) {
            return Err(error(ErrorKind::Interrupted));
        }
        let grows = offset as usize + bytes.len() > state.inodes[self.inode].now.len();
        if state.full && grows {
            // The first write that meets a full disk still finds some space.
            if fault.is_none() {
                return Err(error(ErrorKind::StorageFull));
            }
        }
        if state.length_max.is_some_and(|max| offset as usize + bytes.len() > max) {
            // What fits is written before that is said.
            if fault.is_none() {
                return Err(error(ErrorKind::FileTooLarge));
            }
        }
        if fault.is_some() {
            let length = 1 + state.random.below(bytes.len() as u64) as usize;
            bytes.truncate(length);
        }
        state.inodes[self.inode].put(offset as usize, &bytes);
        if state.dead { Err(broken()) } else { Ok(bytes.len()) }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.step()?;
        if state.full {
            return Err(error(ErrorKind::StorageFull));
        }
        if state.length_max.is_some_and(|max| length as usize > max) {
            return Err(error(ErrorKind::FileTooLarge));
        }
        state.inodes[self.inode].set_len(length as usize);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.step()?;
        state.inodes[self.inode].set_len(length as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        match state.step()? {
            Some(Fault::SyncFails) => {
                state.inodes[self.inode].dirty.clear();
                return Err(broken());
            }
            Some(Fault::Power) => return Err(broken()),
            _ => {}
        }
        state.syncs += 1;
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.disk.0.lock().names.values().any(|inode| *inode == self.inode))
    }
}
