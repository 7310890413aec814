//! Seeing how far a picture is, and stopping it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a painting tells of itself, and what can end it. For large pictures: a frame of a video is done before
/// anybody could look.
///
/// ```
/// use std::sync::atomic::AtomicBool;
/// let (show, stop) = (|done: f64| eprintln!("{:.0} %", 100.0 * done), AtomicBool::new(false));
/// let progress = impasto::Progress::new().report(&show).stop_when(&stop);
/// # let _ = progress;
/// ```
#[derive(Clone, Copy, Default)]
pub struct Progress<'a> {
    report: Option<&'a (dyn Fn(f64) + Sync)>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Progress<'a> {
    /// Tells nothing and cannot be stopped.
    pub fn new() -> Self {
        Progress::default()
    }

    /// Calls `report` on the painting's own thread with the share of the work that is done: from 0 to 1, never
    /// less than before, about a thousand times a picture at most.
    #[must_use]
    pub fn report(self, report: &'a (dyn Fn(f64) + Sync)) -> Self {
        Progress { report: Some(report), ..self }
    }

    /// Gives up, with [`RuntimeError::Stopped`](crate::RuntimeError::Stopped), soon after `stop` has become true:
    /// the CPU engine within a few rows, its portable path within a convolution; a GPU is not stopped.
    #[must_use]
    pub fn stop_when(self, stop: &'a AtomicBool) -> Self {
        Progress { stop: Some(stop), ..self }
    }

    /// Whether it is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Reports that `done` of `total` is done; before this step `before` was.
    pub(crate) fn step(&self, before: u64, done: u64, total: u64) {
        let Some(report) = self.report else { return };
        let share = |done: u64| (done as f64 / total.max(1) as f64).min(1.0);
        // Each thousandth once.
        if (share(before) * 1000.0) as u32 != (share(done) * 1000.0) as u32 {
            report(share(done));
        }
    }
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("report", &self.report.is_some()).field("stop", &self.stop).finish()
    }
}
