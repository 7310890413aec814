//! Ctrl-C: at once while painting, after the file while one is being written, so that nothing half is left. Where a
//! picture grows step by step, the first one ends the steps and keeps what there is.

use std::process::{self, ExitCode};
#[cfg(feature = "reference")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What shells expect of a command that was interrupted: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

static WRITING: Mutex<()> = Mutex::new(());

/// The exit code of a job that Ctrl-C ended.
pub fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

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
        process::exit(INTERRUPTED.into());
    });
}

/// From here on each Ctrl-C calls `pressed` with how many there have been; the third ends the process. `kill` and a
/// terminal that is closed count as one: these jobs run long, and what they have begun to write would stay.
pub fn install_counted(pressed: impl Fn(u32) + Send + 'static) {
    #[cfg(unix)]
    take_endings_for_ctrl_c();
    let mut count = 0;
    let _ = ctrlc::set_handler(move || {
        count += 1;
        if count >= 3 {
            process::exit(INTERRUPTED.into());
        }
        pressed(count);
    });
}

/// Makes SIGTERM and SIGHUP what Ctrl-C is, but for one that is ignored, as SIGHUP is under `nohup`.
#[cfg(unix)]
fn take_endings_for_ctrl_c() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

    extern "C" fn pass_on(_: i32) {
        let _ = raise(Signal::SIGINT);
    }
    let passing = SigAction::new(SigHandler::Handler(pass_on), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only calls `raise`, which is among what a handler may call.
        let before = unsafe { sigaction(signal, &passing) };
        if let Ok(before) = before
            && matches!(before.handler(), SigHandler::SigIgn)
        {
            // SAFETY: what was in force before.
            let _ = unsafe { sigaction(signal, &before) };
        }
    }
}

/// Whether Ctrl-C has been pressed since [`install_lenient`].
#[cfg(feature = "reference")]
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

#[cfg(feature = "reference")]
static ASKED: AtomicBool = AtomicBool::new(false);

/// From here on the first Ctrl-C makes [`asked`] true and calls `pressed`, the second ends the process as with
/// [`install`].
#[cfg(feature = "reference")]
pub fn install_lenient(pressed: impl Fn() + Send + 'static) {
    let _ = ctrlc::set_handler(move || {
        if ASKED.swap(true, Ordering::Relaxed) {
            let _guard = writing();
            process::exit(INTERRUPTED.into());
        }
        pressed();
    });
}
