//! Memory asked for before it is needed.

/// Has memory bring what is looked at soon; nothing waits for it. On processors other than x86-64 it does nothing.
#[inline(always)]
#[cfg_attr(all(target_arch = "x86_64", not(miri)), expect(unsafe_code, reason = "a prefetch has no other face"))]
pub(crate) fn fetch<T>(what: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch changes nothing, reads nothing that a program could see and faults nowhere; every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = what;
}

/// Bytes of a cache line.
const LINE: usize = 64;
/// Rows that memory is asked for at once. Columns are asked for twice as many before their rows are read, what those say once as many.
const STRIDE: usize = 64;
/// Columns that are longer are not gone through from end to end.
const ROW_MAX: usize = 256;

/// Columns that are gone through row by row, whose memory is asked for before: there are more of them than processors keep an eye on.
pub(crate) struct Ahead<'a> {
    columns: Vec<&'a [u8]>,
    rows: usize,
}

impl<'a> Ahead<'a> {
    /// Takes the bytes of columns of so many rows.
    pub(crate) fn of(columns: impl IntoIterator<Item = &'a [u8]>, rows: usize) -> Self {
        let read = |bytes: &&[u8]| !bytes.is_empty() && bytes.len() <= rows.saturating_mul(ROW_MAX);
        let columns = columns.into_iter().filter(read).collect();
        let ahead = Self { columns, rows };
        ahead.fetch(0, 2 * STRIDE);
        ahead
    }

    /// Is called for each row, in order; returns, once in so many rows, others that come soon and are in no cache but for what was asked for.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize) -> Option<std::ops::Range<usize>> {
        row.is_multiple_of(STRIDE).then(|| {
            self.fetch(row + 2 * STRIDE, STRIDE);
            let near = if row == 0 { 0 } else { row + STRIDE };
            near.min(self.rows)..(row + 2 * STRIDE).min(self.rows)
        })
    }

    #[inline(never)]
    fn fetch(&self, from: usize, rows: usize) {
        for bytes in &self.columns {
            // Near enough where values differ in length.
            let place = |row: usize| bytes.len() * row / self.rows;
            let (mut at, to) = (place(from), place(from + rows));
            while at < to
                && let Some(line) = bytes.get(at)
            {
                fetch(line);
                at += LINE;
            }
        }
    }
}
