//! The next log file, made while the one before it is being filled.
//!
//! *Why.* A file whose blocks were never written costs every sync an entry in the file system's own journal, which waits for whatever
//! else is written there: segments, above all. Into a file full of zeros only the blocks themselves have to go. Filling it takes
//! longer than an ack may, and nobody waits for it here.
//!
//! *Invariants.* A file that is handed over was written and synced from end to end, and nothing here touches it afterwards. What is
//! not ready when it is needed is not waited for: the writer makes a file of its own. A failure costs the head start and nothing else.
//!
//! *Pace.* Two bytes of zeros for each byte of frames, from a quarter of the file before to three quarters: no timer, and nothing at
//! all where nothing is committed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tracing::{debug, warn};

use crate::blocks::{Aligned, write_blocks};
use crate::disk::{Disk, DiskFile};
use crate::files::Files;
use crate::options::JournalOptions;

/// Zeros that are written at once; a file that is smaller is not worth a head start.
const STEP_BYTES: u64 = 1 << 20;

/// Who makes the next file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// A thread of its own.
    Thread,
    /// Whoever commits, on the spot, however small the file: for tests that must come out the same every time.
    #[cfg(test)]
    Caller,
}

/// A file full of zeros, and where it is.
pub(crate) struct Ready {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
}

/// A log file that nothing more is written to: its first number, and where its frames end.
pub(crate) struct Full {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) first: u64,
    pub(crate) end: u64,
}

/// What is to be done, and how far it is.
#[derive(Default)]
struct Orders {
    /// How many zeros there should be by now.
    zeros: u64,
    made: u64,
    ready: Option<Ready>,
    /// To be cut where their frames end.
    full: Vec<Full>,
    failed: bool,
    stop: bool,
}

impl Orders {
    fn has_work(&self) -> bool {
        !self.full.is_empty() || (self.ready.is_none() && !self.failed && !self.stop && self.zeros > self.made)
    }
}

/// A file that is not full of zeros yet.
#[derive(Default)]
struct Making {
    file: Option<Ready>,
    /// How many were begun: each has a name of its own.
    begun: u64,
}

struct Shared {
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    files: Arc<Files>,
    orders: Mutex<Orders>,
    changed: Condvar,
    /// Taken by whoever works, and never while `orders` is held.
    making: Mutex<Making>,
}

/// See the module.
pub(crate) struct Ahead {
    shared: Arc<Shared>,
    by: By,
    on: bool,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    pub(crate) fn new(by: By, disk: Arc<dyn Disk>, options: &JournalOptions, files: Arc<Files>) -> Self {
        let on = options.preallocate && options.ahead && (by != By::Thread || options.file_bytes_max >= STEP_BYTES);
        let shared = Arc::new(Shared {
            disk,
            options: options.clone(),
            files,
            orders: Mutex::default(),
            changed: Condvar::new(),
            making: Mutex::default(),
        });
        Self { shared, by, on, thread: None }
    }

    /// Says that the log file being written to ends at `end`.
    pub(crate) fn follow(&mut self, end: u64) {
        let whole = self.shared.options.file_bytes_max;
        let zeros = (end.saturating_sub(whole / 4) * 2).min(whole);
        {
            let mut orders = self.shared.orders.lock();
            let enough = zeros >= orders.zeros + STEP_BYTES || (zeros == whole && zeros > orders.zeros);
            if !self.on || !enough {
                return;
            }
            orders.zeros = zeros;
        }
        self.wake();
    }

    /// Takes the next file, if it is ready; another one is made as the log goes on.
    pub(crate) fn take(&self) -> Option<Ready> {
        let mut orders = self.shared.orders.lock();
        (orders.zeros, orders.failed) = (0, false);
        let ready = orders.ready.take()?;
        self.shared.files.set_spare(0);
        Some(ready)
    }

    /// Gives back what a file has beyond its frames. Zeros at its end are as good, so nothing depends on it.
    pub(crate) fn cut(&mut self, full: Full) {
        self.shared.orders.lock().full.push(full);
        self.wake();
    }

    fn wake(&mut self) {
        if self.by != By::Thread {
            while self.shared.step() {}
            return;
        }
        if self.thread.is_none() {
            let shared = self.shared.clone();
            match std::thread::Builder::new().name("plimsoll-log".to_owned()).spawn(move || shared.run()) {
                Ok(thread) => self.thread = Some(thread),
                // Tried again at the next call.
                Err(error) => warn!(%error, "no thread could be started to make log files ahead of time"),
            }
        }
        self.shared.changed.notify_one();
    }

    /// Ends the thread and removes what was not taken.
    pub(crate) fn stop(&mut self) {
        self.shared.orders.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that makes log files ahead of time ended unexpectedly");
        }
        while self.shared.step() {}
        let making = self.shared.making.lock().file.take();
        for Ready { path, .. } in self.take().into_iter().chain(making) {
            self.shared.remove(&path);
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            while self.step() {}
            let mut orders = self.orders.lock();
            if orders.has_work() {
                continue;
            }
            if orders.stop {
                return;
            }
            self.changed.wait(&mut orders);
        }
    }

    /// Does one piece of work; false where there is none.
    fn step(&self) -> bool {
        let mut making = self.making.lock();
        let (full, made) = {
            let mut orders = self.orders.lock();
            if !orders.has_work() {
                return false;
            }
            (orders.full.pop(), orders.made)
        };
        if let Some(full) = full {
            self.cut(&full);
            return true;
        }
        let result = self.fill(&mut making, made);
        let whole = self.options.file_bytes_max;
        let mut orders = self.orders.lock();
        match result {
            Ok(made) if made >= whole => {
                (orders.made, orders.ready) = (0, making.file.take());
            }
            Ok(made) => orders.made = made,
            Err(error) => {
                debug!(%error, "a log file could not be made ahead of time");
                (orders.made, orders.failed) = (0, true);
                self.files.set_spare(0);
                if let Some(Ready { path, .. }) = making.file.take() {
                    self.remove(&path);
                }
            }
        }
        true
    }

    /// Writes a step of zeros after `made`, the last one durably; returns how many there are then.
    fn fill(&self, making: &mut Making, made: u64) -> io::Result<u64> {
        let whole = self.options.file_bytes_max;
        let file = match &making.file {
            Some(ready) => &ready.file,
            None => {
                making.begun += 1;
                let path = self.options.dir.join(format!("next-{}.log.tmp", making.begun));
                let file = self.disk.create_log(&path)?;
                &making.file.insert(Ready { file, path }).file
            }
        };
        if made == 0 {
            file.allocate(whole)?;
            self.files.set_spare(whole);
        }
        let block = file.block_bytes() as u64;
        let step = STEP_BYTES.min(whole - made);
        // The last block is written whole even where the file is not.
        let zeros = Aligned::zeroed(usize::try_from(step.next_multiple_of(block)).unwrap_or(usize::MAX));
        write_blocks(file.as_ref(), &zeros.as_slice()[..zeros.as_slice().len()], made)?;
        let made = made + step;
        if made >= whole {
            file.sync_all()?;
        }
        Ok(made)
    }

    fn cut(&self, full: &Full) {
        match full.file.set_len(full.end) {
            Ok(()) => self.files.update(full.first, |file| file.bytes = full.end),
            Err(error) => warn!(%error, "space set aside for a log file could not be given back"),
        }
    }

    fn remove(&self, path: &std::path::Path) {
        if let Err(error) = self.disk.remove(path) {
            debug!(path = %path.display(), %error, "an unfinished log file could not be removed");
        }
    }
}
