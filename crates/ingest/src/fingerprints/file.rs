//! Fingerprints on disk: what a restart needs of the requests whose frames the journal gave back.
//!
//! *Layout.* `docs/formats/fingerprints.md`; integers are little-endian. Files are named by a number that ascends.
//!
//! ```text
//! file    0  magic       8  "PLIMSEEN"
//!         8  version     4  1
//!        12  seed        8  of the hash; the same in every file of a directory
//!        20  reserved    8  zero
//!        28  crc32c      4  of bytes 0..28
//!        32  blocks
//!
//! block   0  count       4  of the entries
//!         4  crc32c      4  of count, through, entries
//!         8  through     8  every frame up to this one is in this block or an earlier one, or too old to matter
//!        16  entries    24  each: fingerprint 16, received 8 (highest bit: the answer has to be worked out again)
//! ```
//!
//! *Invariants.* A block is synced before the frames it speaks of are given back. A block that cannot be read ends its file: it
//! was being written when the process or the machine stopped, and the journal still has its frames. Files are only appended to,
//! and never after a restart: what was torn is never followed by anything.
//!
//! *Bounds.* A file is followed by another once it has as many entries as memory has room for; of those before, as many are
//! kept as it takes to fill memory again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::ring::Stored;

/// The version written, and the only one read.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"PLIMSEEN";
const HEADER_BYTES: usize = 32;
const BLOCK_HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;
const SUFFIX: &str = ".seen";

/// What was found in a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of the newest file; `None` where there is none that can be read.
    pub(super) seed: Option<u64>,
    /// Oldest first.
    pub(super) stored: Vec<Stored>,
    /// Every frame up to this one is accounted for.
    pub(super) through: u64,
}

/// One file that is there.
#[derive(Debug)]
struct Generation {
    number: u64,
    entries: usize,
    /// When the last of its requests was received.
    newest: u64,
}

/// The directory, open for more.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    seed: u64,
    generations: Vec<Generation>,
    /// The last of `generations`, where this process has made it.
    active: Option<File>,
}

impl Files {
    /// Reads what is there, of which the last `most` entries are wanted; `fresh` seeds a directory that has nothing.
    ///
    /// # Errors
    /// The directory cannot be made or read. Damage is no error.
    pub(super) fn open(dir: &Path, fresh: u64, most: usize) -> io::Result<(Self, Found)> {
        create_dirs(dir)?;
        let mut numbers: Vec<u64> = fs::read_dir(dir)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let mut found = Found::default();
        let mut generations = Vec::new();
        let mut wanted = most;
        let mut parts = Vec::new();
        // Newest first: where there is more than memory holds, the oldest are left out.
        for number in numbers.into_iter().rev() {
            let mut bytes = Vec::new();
            File::open(dir.join(name(number)))?.read_to_end(&mut bytes)?;
            let Some((seed, stored, through)) = read(&bytes) else {
                tracing::warn!(dir = %dir.display(), number, "a file of fingerprints cannot be read and is left out");
                let newest = written(&dir.join(name(number)));
                generations.push(Generation { number, entries: 0, newest });
                continue;
            };
            let same = *found.seed.get_or_insert(seed) == seed;
            found.through = found.through.max(through);
            let newest = stored.iter().map(Stored::received_ns).max().unwrap_or(0);
            generations.push(Generation { number, entries: stored.len(), newest });
            if same && wanted > 0 {
                wanted = wanted.saturating_sub(stored.len());
                parts.push(stored);
            }
        }
        generations.reverse();
        found.stored = parts.into_iter().rev().flatten().collect();
        let seed = found.seed.unwrap_or(fresh);
        Ok((Self { dir: dir.to_owned(), seed, generations, active: None }, found))
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Makes `stored`, oldest first, durable: with it every frame up to `through` is accounted for. Then gives up what is not
    /// needed any more: files whose requests were all received before `since`, and those beyond the last `most` entries.
    ///
    /// # Errors
    /// A write or sync failed. The file it failed on is not written to again.
    pub(super) fn append(&mut self, stored: &[Stored], through: u64, since: u64, most: usize) -> io::Result<()> {
        let full = self.generations.last().is_some_and(|last| last.entries >= most);
        let mut file = match self.active.take() {
            Some(file) if !full => file,
            _ => self.begin()?,
        };
        // Taken out meanwhile: a file that failed is left as it is, and the next block begins another.
        file.write_all(&block(stored, through))?;
        file.sync_data()?;
        self.active = Some(file);
        if let Some(last) = self.generations.last_mut() {
            last.entries += stored.len();
            last.newest = stored.iter().map(Stored::received_ns).fold(last.newest, u64::max);
        }
        self.give_up(since, most);
        Ok(())
    }

    fn begin(&mut self) -> io::Result<File> {
        let number = self.generations.last().map_or(1, |last| last.number + 1);
        let path = self.dir.join(name(number));
        let mut file = OpenOptions::new().create_new(true).write(true).open(&path)?;
        // Listed whatever comes of it, so that its number is not taken again.
        self.generations.push(Generation { number, entries: 0, newest: 0 });
        file.write_all(&header(self.seed))?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        Ok(file)
    }

    fn give_up(&mut self, since: u64, most: usize) {
        let mut later = 0;
        let mut keep = Vec::with_capacity(self.generations.len());
        for (back, generation) in std::mem::take(&mut self.generations).into_iter().rev().enumerate() {
            // The one being written has the highest `through`, however few entries it has.
            if back == 0 || (later < most && generation.newest >= since) {
                later += generation.entries;
                keep.push(generation);
                continue;
            }
            match fs::remove_file(self.dir.join(name(generation.number))) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(%error, "a file of fingerprints could not be removed");
                    keep.push(generation);
                }
                _ => {}
            }
        }
        keep.reverse();
        self.generations = keep;
    }
}

/// Makes a directory and its parents, durably: what is saved in it must not be lost with its name.
fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dirs(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

/// Returns when a file was last written, which is no earlier than anything in it; the end of time where nobody knows.
fn written(path: &Path) -> u64 {
    let since = fs::metadata(path).and_then(|facts| facts.modified()).map(|at| at.duration_since(UNIX_EPOCH));
    match since {
        Ok(Ok(since)) => u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        _ => u64::MAX,
    }
}

fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

fn header(seed: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&seed.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn block(stored: &[Stored], through: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES + stored.len() * ENTRY_BYTES);
    bytes.extend_from_slice(&u32::try_from(stored.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&through.to_le_bytes());
    for one in stored {
        bytes.extend_from_slice(&one.fingerprint.to_le_bytes());
        bytes.extend_from_slice(&one.received.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a file as far as it is whole; `None` where not even its header is.
fn read(bytes: &[u8]) -> Option<(u64, Vec<Stored>, u64)> {
    let (head, mut rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let whole = head[..8] == MAGIC && u32_at(head, 8) == VERSION && u32_at(head, 28) == crc32c::crc32c(&head[..28]);
    if !whole {
        return None;
    }
    let (mut stored, mut through) = (Vec::new(), 0);
    while let Some((head, entries)) = rest.split_first_chunk::<BLOCK_HEADER_BYTES>() {
        let Some((entries, after)) = entries.split_at_checked((u32_at(head, 0) as usize).saturating_mul(ENTRY_BYTES))
        else {
            break;
        };
        let crc =
            [&head[8..], entries].iter().fold(crc32c::crc32c(&head[..4]), |crc, part| crc32c::crc32c_append(crc, part));
        if crc != u32_at(head, 4) {
            break;
        }
        through = through.max(u64_at(head, 8));
        stored.extend(entries.chunks_exact(ENTRY_BYTES).map(|entry| Stored {
            fingerprint: u128::from(u64_at(entry, 0)) | u128::from(u64_at(entry, 8)) << 64,
            received: u64_at(entry, 16),
            sequence: 0,
        }));
        rest = after;
    }
    Some((u64_at(head, 12), stored, through))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ring::AGAIN;
    use super::*;

    fn stored(fingerprint: u128, received: u64) -> Stored {
        Stored { fingerprint, received, sequence: 0 }
    }

    #[test]
    fn the_bytes_never_change_between_releases() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut files, _) = Files::open(dir.path(), 0x0102_0304_0506_0708, 9).expect("opens");
        files.append(&[stored(0x11 << 120 | 0x22, 5 | AGAIN)], 7, 0, 9).expect("appends");
        let bytes = fs::read(dir.path().join("00000000000000000001.seen")).expect("is there");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            // Header: magic, version, seed, reserved, checksum.
            "504c494d5345454e",
            "01000000",
            "0807060504030201",
            "0000000000000000",
            "a583f5f4",
            // Block: count, checksum, through.
            "01000000",
            "50a3b16d",
            "0700000000000000",
            // Entry: fingerprint, received.
            "22000000000000000000000000000011",
            "0500000000000080",
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn what_is_too_old_or_too_much_is_given_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let count = || fs::read_dir(dir.path()).expect("lists").count();
        let (mut files, _) = Files::open(dir.path(), 1, 4).expect("opens");
        for n in 1..=40 {
            files.append(&[stored(u128::from(n), n)], n, 0, 4).expect("appends");
            assert!(count() <= 3, "{} files after {n}", count());
        }
        let (mut files, found) = Files::open(dir.path(), 2, 4).expect("opens");
        assert_eq!((found.seed, found.through), (Some(1), 40));
        assert!(found.stored.iter().map(|one| one.received).eq(found.stored[0].received..=40));
        assert!((4..=8).contains(&found.stored.len()), "{}", found.stored.len());
        files.append(&[], 41, 100, 4).expect("appends");
        assert_eq!(count(), 1, "all others are too old");
    }

    #[test]
    fn a_file_of_another_release_is_left_out_and_left_alone_until_it_is_old() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(name(3)), b"PLIMSEEN and more").expect("writes");
        let (mut files, found) = Files::open(dir.path(), 9, 4).expect("opens");
        assert!(found.stored.is_empty() && found.seed.is_none());
        files.append(&[stored(1, 1)], 1, 0, 4).expect("appends");
        let (mut files, found) = Files::open(dir.path(), 2, 4).expect("opens");
        assert_eq!((found.stored, found.seed), (vec![stored(1, 1)], Some(9)));
        let there = || dir.path().join(name(3)).exists();
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("is later").as_nanos();
        let now = u64::try_from(now).expect("fits");
        files.append(&[], 2, now - 600_000_000_000, 4).expect("appends");
        assert!(there(), "it was written within the window");
        files.append(&[], 3, now + 600_000_000_000, 4).expect("appends");
        assert!(!there(), "and now it is too old");
    }

    proptest! {
        #[test]
        fn a_file_cut_or_damaged_anywhere_gives_whole_blocks_and_nothing_else(
            sizes in prop::collection::vec(0..5_usize, 1..8), at: prop::sample::Index, flip in 0..9_u8,
        ) {
            let mut bytes = header(7).to_vec();
            let mut ends = vec![(bytes.len(), 0, 0)];
            let mut all = Vec::new();
            for (through, size) in (1..).zip(sizes) {
                let entries: Vec<_> = (0..size).map(|n| stored(n as u128 + through as u128 * 10, through)).collect();
                bytes.extend(block(&entries, through));
                all.extend(entries);
                ends.push((bytes.len(), all.len(), through));
            }
            let at = at.index(bytes.len());
            if flip == 8 { bytes.truncate(at) } else { bytes[at] ^= 1 << flip }
            match read(&bytes) {
                None => prop_assert!(at < HEADER_BYTES),
                Some((seed, stored, through)) => {
                    let (_, count, highest) = ends.iter().rev().find(|(end, ..)| *end <= at).expect("the header is whole");
                    prop_assert_eq!((seed, through), (7, *highest));
                    prop_assert_eq!(&stored[..], &all[..*count]);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read(&[&header(1)[..], &bytes].concat());
        }
    }
}
