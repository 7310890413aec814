//! Sharing a pass over a plane among threads, by rows. What a row holds never depends on who computes it.

use std::sync::Mutex;

/// A number of threads to work with.
pub(super) struct Threads(usize);

/// Below this many values a pass runs on the calling thread: starting threads would cost more than it saves.
const WORTH_SHARING: usize = 1 << 14;

impl Threads {
    pub(super) fn new(count: usize) -> Self {
        Threads(count.clamp(1, 256))
    }

    /// Calls `work(row index, row)` for every row of `row_length` values, in no particular order.
    pub(super) fn for_each_row(
        &self,
        data: &mut [f32],
        row_length: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let rows = data.len() / row_length;
        let helpers = self.0.min(rows) - 1;
        if helpers == 0 || data.len() < WORTH_SHARING {
            return data.chunks_exact_mut(row_length).enumerate().for_each(|(y, row)| work(y, row));
        }
        // Rows are handed out one by one, so that a thread that the system stops holds nobody up for long.
        let queue = Mutex::new(data.chunks_exact_mut(row_length).enumerate());
        let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let drain = || {
            while let Some((y, row)) = next() {
                work(y, row);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(drain);
            }
            drain();
        });
    }
}
