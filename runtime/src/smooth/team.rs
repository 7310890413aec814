//! Sharing a pass over a picture among threads, by bands of rows. What a band holds never depends on who computes
//! it, nor on how many do.

use std::sync::{Mutex, PoisonError};

use crate::pool::{Job, Pool};

/// Threads that wait for passes; started with the first one, since most paintings are never smoothed.
pub(super) struct Team {
    threads: usize,
    pool: Option<Pool>,
}

/// One pass: parts handed out one by one, so that a thread that the system stops holds nobody up for long.
struct Pass<I, W> {
    parts: Mutex<I>,
    work: W,
    workers: usize,
}

impl Team {
    pub(super) fn new(threads: usize) -> Self {
        Team { threads, pool: None }
    }

    /// Calls `work` with every part, in no particular order.
    pub(super) fn share<P>(&mut self, parts: impl Iterator<Item = P> + Send, work: impl Fn(P) + Sync) {
        if self.threads <= 1 {
            return parts.for_each(work);
        }
        let threads = self.threads;
        let pool = self.pool.get_or_insert_with(|| Pool::new(threads));
        let workers = pool.workers();
        pool.run(&Pass { parts: Mutex::new(parts), work, workers });
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn threads_start_with_the_first_pass_and_do_every_part_once() {
        let mut team = Team::new(3);
        assert!(team.pool.is_none());
        let sum = AtomicUsize::new(0);
        team.share(0..100, |part| {
            sum.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 4950);
        assert!(team.pool.is_some());
    }
}
