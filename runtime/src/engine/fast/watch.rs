//! How far a frame is, and whether its workers are to go on: they stop early when it is cancelled or when its
//! scratch file fails.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::plan::Plan;
use super::planes::scratch_error;
use crate::error::RuntimeError;
use crate::progress::Progress;

/// A frame on its way.
pub(super) struct Watch<'a> {
    progress: &'a Progress<'a>,
    /// Multiply-adds that are done, and those there are.
    done: AtomicU64,
    total: u64,
    /// What worker 0 reported last.
    reported: AtomicU64,
    stop: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(progress: &'a Progress<'a>, plan: &Plan) -> Self {
        let total = plan.stages.iter().map(|stage| stage.task_work * stage.grid.tasks() as u64).sum();
        Watch {
            progress,
            done: AtomicU64::new(0),
            total,
            reported: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }

    /// Whether workers are to stop; asked before every few rows.
    pub(super) fn is_stopped(&self) -> bool {
        if self.progress.is_stopped() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }

    /// The scratch file failed: all stop. The first reason counts.
    pub(super) fn fail(&self, error: io::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// So many more multiply-adds are done. Worker 0, which is the calling thread, reports.
    pub(super) fn advance(&self, worker: usize, work: u64) {
        let done = self.done.fetch_add(work, Ordering::Relaxed) + work;
        if worker == 0 {
            self.progress.step(self.reported.swap(done, Ordering::Relaxed), done, self.total);
        }
    }

    /// What became of the frame.
    pub(super) fn result(self, plan: &Plan) -> Result<(), RuntimeError> {
        match self.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(scratch_error(plan.plane_bytes - plan.memory, error)),
            None if self.stop.into_inner() => Err(RuntimeError::Stopped),
            None => {
                self.progress.step(self.reported.into_inner(), self.total, self.total);
                Ok(())
            }
        }
    }
}
