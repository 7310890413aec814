//! A fixed set of threads that walk through the stages of a frame together.
//!
//! A frame is a [`Job`]: stages in order, each a number of tasks. A worker takes tasks from the front of its
//! own share of a stage, in order (so that what it keeps from one task serves the next), then from the back of
//! the others'. At the end of a stage all meet; the last to arrive closes the stage alone. Who does which task
//! is chance, so a job's results must not depend on it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::lock::lock;

/// Work in stages.
pub(crate) trait Job: Sync {
    /// Number of stages.
    fn stages(&self) -> usize;
    /// Number of tasks of a stage; known once the stage before is closed.
    fn tasks(&self, stage: usize) -> usize;
    /// Does one task; no two calls have the same `worker` at once.
    fn work(&self, worker: usize, stage: usize, task: usize);
    /// Called once when all tasks of a stage are done and before the next begins.
    fn close(&self, stage: usize);
}

/// Threads that wait for jobs.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

struct Shared {
    workers: usize,
    gate: Gate,
    arrived: AtomicUsize,
    /// Each worker's share of the stage: first task, end.
    shares: Vec<Share>,
    job: Mutex<Option<JobPointer>>,
    leave: AtomicBool,
    panicked: AtomicBool,
}

/// On a cache line of its own.
#[repr(align(128))]
struct Share(AtomicU64);

/// A job borrowed for the length of [`Pool::run`].
#[derive(Clone, Copy)]
struct JobPointer(*const (dyn Job + 'static));

// SAFETY: it points to a `Job`, which is `Sync`, and is dereferenced only while `Pool::run` keeps it alive.
unsafe impl Send for JobPointer {}

impl Pool {
    /// `workers` threads, the calling one included.
    pub(crate) fn new(workers: usize) -> Self {
        let workers = workers.clamp(1, 256);
        let shared = Arc::new(Shared {
            workers,
            gate: Gate::default(),
            arrived: AtomicUsize::new(0),
            shares: (0..workers).map(|_| Share(AtomicU64::new(0))).collect(),
            job: Mutex::new(None),
            leave: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, helpers: Vec::new() };
        for worker in 1..workers {
            let shared = Arc::clone(&pool.shared);
            let name = format!("impasto-{worker}");
            match std::thread::Builder::new().name(name).spawn(move || shared.serve(worker)) {
                Ok(helper) => pool.helpers.push(helper),
                // No more threads to be had: the calling one does the work alone.
                Err(_) => return Pool::new(1),
            }
        }
        pool
    }

    pub(crate) fn workers(&self) -> usize {
        self.shared.workers
    }

    /// Does a job, the calling thread as worker 0. Not to be called from two threads at once.
    pub(crate) fn run(&mut self, job: &dyn Job) {
        let shared = &*self.shared;
        let pointer: *const (dyn Job + '_) = job;
        // SAFETY: only the lifetime changes; `job` outlives its use, since this function returns after every
        // worker has passed the last stage's gate, behind which none touches the pointer.
        let pointer = JobPointer(unsafe {
            std::mem::transmute::<*const (dyn Job + '_), *const (dyn Job + 'static)>(pointer)
        });
        shared.panicked.store(false, Ordering::Relaxed);
        shared.deal(job, 0);
        *lock(&shared.job) = Some(pointer);
        let opened = shared.gate.open();
        shared.walk(job, 0, opened);
        *lock(&shared.job) = None;
        if shared.panicked.load(Ordering::Relaxed) {
            panic!("a worker panicked");
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.leave.store(true, Ordering::Release);
        self.shared.gate.open();
        for helper in self.helpers.drain(..) {
            let _ = helper.join(); // its panic, if any, was reported by `run`
        }
    }
}

impl Shared {
    /// A helper's life: wait for a job, walk through it, again.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        loop {
            // Between frames there may be seconds: helpers sleep soon.
            self.gate.wait(seen, 200);
            seen += 1;
            if self.leave.load(Ordering::Acquire) {
                return;
            }
            let Some(job) = *lock(&self.job) else { continue };
            // SAFETY: `Pool::run` keeps the job alive until every worker is through.
            let job: &dyn Job = unsafe { &*job.0 };
            seen = self.walk(job, worker, seen);
        }
    }

    /// Goes through all stages. The gate stood at `seen` when the job began; returns where it stood at its end
    /// (and not where it stands: the next job may have begun).
    fn walk(&self, job: &dyn Job, worker: usize, mut seen: usize) -> usize {
        for stage in 0..job.stages() {
            let work = || {
                while let Some(task) = self.take(worker) {
                    if self.panicked.load(Ordering::Relaxed) {
                        return;
                    }
                    job.work(worker, stage, task);
                }
            };
            self.catch(work);
            if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
                self.arrived.store(0, Ordering::Relaxed);
                self.catch(|| {
                    if !self.panicked.load(Ordering::Relaxed) {
                        job.close(stage);
                    }
                    if stage + 1 < job.stages() {
                        self.deal(job, stage + 1);
                    }
                });
                self.gate.open();
            } else {
                self.gate.wait(seen, 20_000);
            }
            seen += 1;
        }
        seen
    }

    /// Runs a part of a job; a panic is remembered, so that nobody waits for ever.
    fn catch(&self, part: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(part)).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }

    /// Deals a stage's tasks out in equal shares of consecutive ones.
    fn deal(&self, job: &dyn Job, stage: usize) {
        let tasks = job.tasks(stage);
        for (worker, share) in self.shares.iter().enumerate() {
            let (first, end) = (tasks * worker / self.workers, tasks * (worker + 1) / self.workers);
            share.0.store(pack(first, end), Ordering::Relaxed);
        }
    }

    /// The next task for a worker: its own first one, else another's last one.
    fn take(&self, worker: usize) -> Option<usize> {
        let update = |share: &Share, step: fn(usize, usize) -> (usize, usize, usize)| {
            let mut now = share.0.load(Ordering::Relaxed);
            loop {
                let (first, end) = unpack(now);
                if first >= end {
                    return None;
                }
                let (task, first, end) = step(first, end);
                let next = pack(first, end);
                match share.0.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return Some(task),
                    Err(other) => now = other,
                }
            }
        };
        update(&self.shares[worker], |first, end| (first, first + 1, end)).or_else(|| {
            (1..self.workers).find_map(|distance| {
                let victim = &self.shares[(worker + distance) % self.workers];
                update(victim, |first, end| (end - 1, first, end - 1))
            })
        })
    }
}

fn pack(first: usize, end: usize) -> u64 {
    debug_assert!(end <= u32::MAX as usize);
    (first as u64) << 32 | end as u64
}

fn unpack(share: u64) -> (usize, usize) {
    ((share >> 32) as usize, (share & 0xffff_ffff) as usize)
}

/// A counter to wait for: spins for a moment, since stages are short, then sleeps.
#[derive(Default)]
struct Gate {
    count: AtomicUsize,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

impl Gate {
    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn open(&self) -> usize {
        // Under the lock, so that nobody falls asleep between the look at the count and the wait.
        let sleepers = lock(&self.sleepers);
        let count = self.count.fetch_add(1, Ordering::Release) + 1;
        if *sleepers > 0 {
            self.wake.notify_all();
        }
        count
    }

    /// Returns as soon as the count is not `seen`.
    fn wait(&self, seen: usize, spins: usize) {
        for spin in 0..spins {
            if self.count() != seen {
                return;
            }
            if spin % 256 == 255 {
                // Perhaps there are fewer cores than threads just now.
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let mut sleepers = lock(&self.sleepers);
        *sleepers += 1;
        while self.count() == seen {
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often each task was done, and that stages do not overlap.
    struct Counting {
        done: Vec<Vec<AtomicUsize>>,
        closed: AtomicUsize,
        panics_at: Option<(usize, usize)>,
    }

    impl Counting {
        fn new(tasks: &[usize]) -> Self {
            let done = tasks.iter().map(|&n| (0..n).map(|_| AtomicUsize::new(0)).collect()).collect();
            Counting { done, closed: AtomicUsize::new(0), panics_at: None }
        }
    }

    impl Job for Counting {
        fn stages(&self) -> usize {
            self.done.len()
        }
        fn tasks(&self, stage: usize) -> usize {
            self.done[stage].len()
        }
        fn work(&self, _: usize, stage: usize, task: usize) {
            assert_eq!(self.closed.load(Ordering::SeqCst), stage, "the stage before is closed, this one not");
            assert_ne!(self.panics_at, Some((stage, task)), "as planned");
            self.done[stage][task].fetch_add(1, Ordering::SeqCst);
        }
        fn close(&self, stage: usize) {
            assert!(self.done[stage].iter().all(|n| n.load(Ordering::SeqCst) == 1));
            assert_eq!(self.closed.fetch_add(1, Ordering::SeqCst), stage);
        }
    }

    #[test]
    fn every_task_is_done_once_and_stages_follow_each_other() {
        for workers in [1, 2, 3, 8] {
            let mut pool = Pool::new(workers);
            for round in 0..300 {
                let job = Counting::new(&[1, 7, 0, 64, round % 5, 2]);
                pool.run(&job);
                assert_eq!(job.closed.into_inner(), 6, "{workers} workers, round {round}");
            }
        }
    }

    #[test]
    fn helpers_that_fell_asleep_wake_up() {
        let mut pool = Pool::new(3);
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let job = Counting::new(&[9, 9]);
            pool.run(&job);
            assert_eq!(job.closed.into_inner(), 2);
        }
    }

    #[test]
    fn a_panic_in_a_task_is_the_caller_s_and_the_pool_goes_on() {
        let mut pool = Pool::new(2);
        let mut job = Counting::new(&[3, 40, 3]);
        job.panics_at = Some((1, 33));
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(&job))).is_err());
        let job = Counting::new(&[3, 40, 3]);
        pool.run(&job);
        assert_eq!(job.closed.into_inner(), 3);
    }
}
