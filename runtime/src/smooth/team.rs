//! Sharing a pass over a picture among threads, by bands of rows. What a band holds never depends on who computes
//! it, nor on how many do.

use std::sync::{Mutex, PoisonError};

use crate::pool::{Job, Pool};

/// Threads that wait for passes.
pub(super) struct Team {
    pool: Pool,
}

/// One pass: parts handed out one by one, so that a thread that the system stops holds nobody up for long.
struct Pass<I, W> {
    parts: Mutex<I>,
    work: W,
    workers: usize,
}

impl Team {
    pub(super) fn new(threads: usize) -> Self {
        Team { pool: Pool::new(threads) }
    }

    /// Calls `work` with every part, in no particular order.
    pub(super) fn share<P>(&mut self, parts: impl Iterator<Item = P> + Send, work: impl Fn(P) + Sync) {
        if self.pool.workers() == 1 {
            return parts.for_each(work);
        }
        let workers = self.pool.workers();
        self.pool.run(&Pass { parts: Mutex::new(parts), work, workers });
    }
}

impl<P, I: Iterator<Item = P> + Send, W: Fn(P) + Sync> Job for Pass<I, W> {
    fn stages(&self) -> usize {
        1
    }

    fn tasks(&self, _: usize) -> usize {
        self.workers
    }

    fn work(&self, _: usize, _: usize, _: usize) {
        let next = || self.parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(part) = next() {
            (self.work)(part);
        }
    }

    fn close(&self, _: usize) {}
}
