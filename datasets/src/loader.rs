//! Batches ahead of time: worker threads that keep a bounded number of them ready, in step order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{DatasetError, panic_text};
use crate::source::{Batch, Scratch, Source, check_batch};

/// More threads than this cannot have been meant; each holds a batch in the making.
const MAX_WORKERS: usize = 1024;

/// How a [`Loader`] loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Pictures in a batch.
    pub batch_size: usize,
    /// Width and height of each picture, in pixels.
    pub image_size: u32,
    /// What order, crops, flips and scenes are drawn from.
    pub seed: u64,
    /// The step of the first batch: 0, or where an interrupted run left off.
    pub start_step: u64,
    /// Threads that decode, at most 1024; 0 for one a processor core. Batches do not depend on it.
    pub workers: usize,
    /// Batches kept ready ahead of the trainer, at least 1; each worker holds one more in the making.
    pub queue: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { batch_size: 4, image_size: 256, seed: 0, start_step: 0, workers: 0, queue: 4 }
    }
}

/// Delivers the batches of consecutive steps; each equals [`Source::batch`] of its step.
///
/// As an iterator it never ends. Dropping it stops the workers after the picture they are at.
pub struct Loader {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    source: Source,
    config: LoaderConfig,
    /// How many steps may be claimed and not yet delivered: the memory bound.
    window: u64,
    stop: AtomicBool,
    state: Mutex<State>,
    /// A step may be claimed, or the loader stops.
    room: Condvar,
    /// A batch is ready.
    ready: Condvar,
}

struct State {
    /// The step the next idle worker takes.
    claim: u64,
    /// The step the trainer gets next.
    deliver: u64,
    ready: BTreeMap<u64, Result<Batch, DatasetError>>,
}

impl Loader {
    /// Starts the workers.
    ///
    /// # Errors
    /// [`DatasetError::Config`] for an empty or huge batch, an empty queue or more than 1024 workers,
    /// [`DatasetError::Thread`].
    pub fn new(source: impl Into<Source>, config: LoaderConfig) -> Result<Self, DatasetError> {
        check_batch(config.batch_size, config.image_size)?;
        if config.queue == 0 {
            return Err(DatasetError::Config {
                reason: "a queue of 0 batches, expected at least 1".to_owned(),
            });
        }
        if config.workers > MAX_WORKERS {
            let reason = format!("{} workers, expected at most {MAX_WORKERS}", config.workers);
            return Err(DatasetError::Config { reason });
        }
        let workers = match config.workers {
            0 => thread::available_parallelism().map_or(1, |cores| cores.get()),
            workers => workers,
        };
        let shared = Shared {
            source: source.into(),
            window: (config.queue as u64).saturating_add(workers as u64),
            stop: AtomicBool::new(false),
            state: Mutex::new(State {
                claim: config.start_step,
                deliver: config.start_step,
                ready: BTreeMap::new(),
            }),
            room: Condvar::new(),
            ready: Condvar::new(),
            config,
        };
        // Built before the threads: if one cannot be started, dropping it stops the others.
        let mut loader = Self { shared: Arc::new(shared), workers: Vec::with_capacity(workers) };
        for number in 0..workers {
            let shared = Arc::clone(&loader.shared);
            let worker = thread::Builder::new()
                .name(format!("impasto-data-{number}"))
                .spawn(move || shared.work())
                .map_err(|source| DatasetError::Thread { source })?;
            loader.workers.push(worker);
        }
        Ok(loader)
    }

    /// The batch of the next step; waits until it is ready.
    ///
    /// # Errors
    /// Those of [`Source::batch`]: no photo is left to train on, or their disk is gone. The call after an error is for
    /// the step after it.
    pub fn next_batch(&mut self) -> Result<Batch, DatasetError> {
        let mut state = self.shared.lock();
        let step = state.deliver;
        loop {
            if let Some(batch) = state.ready.remove(&step) {
                state.deliver = step.wrapping_add(1);
                drop(state);
                self.shared.room.notify_all();
                return batch;
            }
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The step of the batch that [`Loader::next_batch`] gives next: what to save for a resume.
    pub fn next_step(&self) -> u64 {
        self.shared.lock().deliver
    }

    /// How many batches lie ready; 0 again and again means that the trainer waits for data.
    pub fn ready(&self) -> usize {
        self.shared.lock().ready.len()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_batch())
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        {
            // Under the lock, so that no worker goes to sleep between its look at `stop` and the call.
            let _state = self.shared.lock();
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker fences its panics; one that died all the same has nothing left to tell.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A poisoned lock is used on: the state is whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The life of a worker.
    fn work(&self) {
        let mut scratch = Scratch::default();
        while let Some(step) = self.claim() {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&mut scratch, step)));
            let batch = made.unwrap_or_else(|panic| {
                scratch = Scratch::default();
                let message = panic_text(panic.as_ref());
                Err(DatasetError::Panicked { step, message })
            });
            let Some(batch) = batch.transpose() else { return };
            self.lock().ready.insert(step, batch);
            self.ready.notify_all();
        }
    }

    /// The next step, once there is room for it; `None` to stop.
    fn claim(&self) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if self.stopped() {
                return None;
            }
            if state.claim.wrapping_sub(state.deliver) < self.window {
                let step = state.claim;
                state.claim = step.wrapping_add(1);
                return Some(step);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn make(&self, scratch: &mut Scratch, step: u64) -> Result<Option<Batch>, DatasetError> {
        let shape = (self.config.batch_size, self.config.image_size);
        self.source.batch_unless(scratch, self.config.seed, step, shape, &|| self.stopped())
    }
}
