//! The painter's thread: takes the newest frame, paints it, leaves the painting for the window.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use impasto::paint::FramePainter;
use impasto::video::{Capture, Taken};
use impasto::{Frame, Progress, Stylizer, StylizerOptions};

use super::look::{Look, StyleRef};

/// How long to wait for a frame before looking whether it is over.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the two threads share.
pub struct Shared {
    look: Mutex<Look>,
    shown: Mutex<(Shown, bool)>,
    fresh: Condvar,
    interrupted: Arc<AtomicBool>,
    stopped: AtomicBool,
}

/// A painting, with what it was made of.
pub struct Shown {
    pub painted: Frame,
    pub source: Frame,
    /// Which of the styles.
    pub style: usize,
    pub taken: Option<Taken>,
    /// What painting took.
    pub paint_seconds: f64,
}

impl Shown {
    pub fn nothing() -> Self {
        let (painted, source) = (Frame::black(1, 1), Frame::black(1, 1));
        Shown { painted, source, style: 0, taken: None, paint_seconds: 0.0 }
    }

    pub fn is_something(&self) -> bool {
        self.taken.is_some()
    }
}

impl Shared {
    pub fn new(look: Look) -> Self {
        Shared {
            look: Mutex::new(look),
            shown: Mutex::new((Shown::nothing(), false)),
            fresh: Condvar::new(),
            interrupted: Arc::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub fn look(&self) -> Look {
        *lock(&self.look)
    }

    pub fn change(&self, change: impl FnOnce(&mut Look)) {
        change(&mut lock(&self.look));
    }

    /// What Ctrl-C sets.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.fresh.notify_all();
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.is_interrupted()
    }

    /// Swaps `shown` with the newest painting; `false` when there is none within `patience`.
    pub fn take(&self, shown: &mut Shown, patience: Duration) -> bool {
        let waiting = |state: &mut (Shown, bool)| !state.1 && !self.is_stopped();
        let (mut state, _) = self
            .fresh
            .wait_timeout_while(lock(&self.shown), patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if state.1 {
            std::mem::swap(&mut state.0, shown);
        }
        std::mem::take(&mut state.1)
    }
}

/// Tells the window that it is over, however the painting ended.
struct StopAtEnd<'a>(&'a Shared);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Paints until it is over or the source ends. `first` is the first style, opened.
pub fn paint_all(
    capture: &Capture,
    shared: &Shared,
    styles: &[StyleRef],
    first: Stylizer,
    options: StylizerOptions,
) -> Result<()> {
    let _end = StopAtEnd(shared);
    let (mut stylizer, mut style) = (first, 0);
    let mut work = Shown::nothing();
    while !shared.is_stopped() {
        let wanted = shared.look().style;
        if wanted != style {
            (stylizer, style) = (styles[wanted].open(options)?, wanted);
        }
        let mut painter = FramePainter::new(&stylizer, shared.look().paint_options());
        loop {
            let look = shared.look();
            if shared.is_stopped() || look.style != style {
                break;
            }
            let Some(taken) = capture.take(&mut work.source, PATIENCE)? else { continue };
            if look.mirror {
                mirror(&mut work.source);
            }
            painter.set_options(look.paint_options());
            painter.set_smoothing(look.smooth);
            let began = Instant::now();
            painter.paint_into(&work.source, &mut work.painted, &Progress::new())?;
            work.paint_seconds = began.elapsed().as_secs_f64();
            (work.taken, work.style) = (Some(taken), style);
            let mut state = lock(&shared.shown);
            std::mem::swap(&mut state.0, &mut work);
            state.1 = true;
            drop(state);
            shared.fresh.notify_all();
        }
    }
    Ok(())
}

/// Left to right.
fn mirror(frame: &mut Frame) {
    let width = frame.width();
    for row in frame.rgb_mut().chunks_exact_mut(3 * width) {
        for x in 0..width / 2 {
            let (left, right) = (3 * x, 3 * (width - 1 - x));
            for channel in 0..3 {
                row.swap(left + channel, right + channel);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_turns_rows_around() {
        let mut frame = Frame::new(3, 2, (0..18).collect()).expect("a frame");
        mirror(&mut frame);
        assert_eq!(frame.rgb(), [6, 7, 8, 3, 4, 5, 0, 1, 2, 15, 16, 17, 12, 13, 14, 9, 10, 11]);
    }
}
