//! What the threads of a training panic about: kept off the screen, noted, and told once.

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::panic_text;

/// What was panicked about first. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<Mutex<Option<String>>>);

impl Noted {
    fn note(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    /// Forgets what was noted so far, and returns it: whoever goes on was not hindered by it. A kernel that the tuning
    /// tries and that fails is such a panic, and a photo whose decoder does.
    pub fn forget(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs `work` with panics kept off stderr, and returns the first one's text: a panic of one of burn-train's threads
/// is followed by one of ours, which says nothing, and one of a device's thread by none. With `RUST_BACKTRACE` set,
/// panics are printed as always.
pub(crate) fn with_panics_noted<T>(
    work: impl FnOnce(&Noted) -> T,
) -> (std::thread::Result<T>, Option<String>) {
    let noted = Noted::default();
    let ours = noted.clone();
    let quiet = std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0");
    let previous = Arc::new(panic::take_hook());
    let before = Arc::clone(&previous);
    panic::set_hook(Box::new(move |info| {
        // The loader's threads fence what decoders panic about: that is never why a training ends.
        let fenced = std::thread::current().name().is_some_and(|name| name.starts_with("impasto-data-"));
        if !fenced {
            ours.note(panic_text(info.payload()));
        }
        if !quiet {
            before(info);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(|| work(&noted)));
    panic::set_hook(Box::new(move |info| previous(info)));
    (result, noted.forget())
}

/// The panic hook is the process's: of the tests that note panics, or panic on purpose, one runs at a time.
#[cfg(test)]
pub(crate) static ONE: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_is_the_one_that_is_told() {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, first) = with_panics_noted(|_| {
            let inner = std::thread::spawn(|| panic!("the\nreason")).join();
            assert!(inner.is_err(), "the thread panicked");
            panic!("a consequence");
        });
        let result: std::thread::Result<()> = result;
        assert_eq!(panic_text(result.unwrap_err().as_ref()), "a consequence");
        assert_eq!(first.as_deref(), Some("the reason"));
    }

    #[test]
    fn what_was_forgotten_and_what_is_fenced_is_not_told() {
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let panics = |name: &str| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            assert!(thread.spawn(|| panic!("a panic")).unwrap().join().is_err());
        };
        let (result, first) = with_panics_noted(|noted| {
            panics("a kernel that is tried");
            assert_eq!(noted.forget().as_deref(), Some("a panic"));
            panics("impasto-data-3");
        });
        assert!(result.is_ok());
        assert_eq!(first, None);
    }
}
