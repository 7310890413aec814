//! Ending a job before its end: with what there is, or with nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ffmpeg::Running;

/// How soon an abandoned job is noticed.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// Ends a job from another thread, or from a signal's handler.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    abandoned: AtomicBool,
}

impl Stop {
    /// Nothing is asked yet.
    pub const fn new() -> Self {
        Stop { asked: AtomicBool::new(false), abandoned: AtomicBool::new(false) }
    }

    /// Ends the job after the frame in hand; what is painted becomes a whole video, its sound cut at its end.
    pub fn finish(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Ends the job at once and leaves nothing.
    pub fn abandon(&self) {
        self.finish();
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// For [`Progress::stop_when`](crate::Progress::stop_when): becomes true when the job is abandoned.
    pub fn abandoned(&self) -> &AtomicBool {
        &self.abandoned
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// Ends the programs when the job is abandoned, so that no thread waits for their pipes.
pub(super) struct Watch<'a> {
    pub stop: &'a Stop,
    done: AtomicBool,
    programs: Mutex<Vec<Arc<Running>>>,
}

impl Watch<'_> {
    pub fn add(&self, program: &Arc<Running>) {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(program));
    }

    /// Runs `work`, which may be abandoned as long as it runs.
    pub fn during<T>(stop: &Stop, work: impl FnOnce(&Watch<'_>) -> T) -> T {
        let watch = Watch { stop, done: AtomicBool::new(false), programs: Mutex::default() };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| watch.run()).thread().clone();
            let _done = Done { watch: &watch, thread };
            work(&watch)
        })
    }

    fn run(&self) {
        while !self.done.load(Ordering::Relaxed) {
            if self.stop.is_abandoned() {
                let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
                programs.iter().for_each(|program| program.kill());
            }
            std::thread::park_timeout(WATCH_EVERY);
        }
    }
}

/// Dropped when the job ends, in whatever way: the watch ends too.
struct Done<'a> {
    watch: &'a Watch<'a>,
    thread: std::thread::Thread,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.watch.done.store(true, Ordering::Relaxed);
        self.thread.unpark();
    }
}
