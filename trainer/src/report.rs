//! What a person reads while a style is learned: lines on stderr, past the progress line, and nothing when told so.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::ProgressBar;

/// Prints notes and warnings to stderr. Clones share one progress line.
#[derive(Debug, Clone)]
pub struct Reporter {
    quiet: bool,
    bar: Arc<Mutex<Option<ProgressBar>>>,
    /// While the dashboard owns the screen, lines are kept and printed when it is gone.
    held: Arc<Mutex<Option<Vec<String>>>>,
}

impl Reporter {
    /// A reporter; a quiet one prints warnings only.
    pub fn new(quiet: bool) -> Self {
        Reporter { quiet, bar: Arc::default(), held: Arc::default() }
    }

    /// Whether a progress line makes sense: stderr is a terminal and nobody asked for quiet.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }

    /// A line of news.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            self.print(line);
        }
    }

    /// A line that is printed even when quiet.
    pub fn warn(&self, line: &str) {
        self.print(&format!("warning: {line}"));
    }

    fn print(&self, line: &str) {
        if let Some(held) = self.held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            held.push(line.to_owned());
            return;
        }
        match self.bar.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Lets lines appear above this progress bar.
    pub fn attach(&self, bar: ProgressBar) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    /// Removes the progress bar.
    pub fn detach(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    /// Gives the terminal back when it is dropped, however a run ends: what was kept back is printed, the progress line
    /// goes.
    pub fn until_the_end(&self) -> UntilTheEnd {
        UntilTheEnd(self.clone())
    }

    /// Keeps lines back until [`Reporter::release`].
    pub fn hold(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// Prints what was kept back.
    pub fn release(&self) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        for line in held.unwrap_or_default() {
            eprintln!("{line}");
        }
    }
}

/// See [`Reporter::until_the_end`].
#[derive(Debug)]
pub struct UntilTheEnd(Reporter);

impl Drop for UntilTheEnd {
    fn drop(&mut self) {
        self.0.release();
        self.0.detach();
    }
}

/// A duration for people: `45 s`, `12 min`, `3 h 20 min`.
pub fn duration_text(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 90.0 {
        return format!("{seconds:.0} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 90 {
        format!("{minutes} min")
    } else {
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_not_kept_back_by_a_run_that_panics() {
        let _one = crate::panics::ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let reporter = Reporter::new(false);
        reporter.attach(ProgressBar::hidden());
        let run = std::thread::spawn({
            let reporter = reporter.clone();
            move || {
                let _terminal = reporter.until_the_end();
                reporter.hold();
                reporter.warn("this line is a test's");
                assert_eq!(reporter.held.lock().unwrap().as_ref().unwrap().len(), 1);
                panic!("the run's end");
            }
        });
        assert!(run.join().is_err());
        assert!(reporter.held.lock().unwrap().is_none() && reporter.bar.lock().unwrap().is_none());
    }

    #[test]
    fn durations_are_readable() {
        for (seconds, text) in
            [(4.4, "4 s"), (89.0, "89 s"), (91.0, "2 min"), (5400.0, "1 h 30 min"), (-1.0, "0 s")]
        {
            assert_eq!(duration_text(seconds), text);
        }
    }
}
