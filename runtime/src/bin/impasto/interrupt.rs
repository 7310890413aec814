//! Ctrl-C: at once while painting, after the file while one is being written, so that nothing half is left.

use std::sync::{Mutex, MutexGuard, PoisonError};

static WRITING: Mutex<()> = Mutex::new(());

/// Hold this while a file is being written.
pub fn writing() -> MutexGuard<'static, ()> {
    WRITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on Ctrl-C waits for a file in flight, then ends the process with exit code 130.
pub fn install() {
    // Without the handler the system's default stays in force, which may leave a temporary file but no half
    // picture; that is no reason not to paint.
    let _ = ctrlc::set_handler(|| {
        let _guard = writing();
        std::process::exit(130);
    });
}
