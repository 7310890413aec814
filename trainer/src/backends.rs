//! The one place where training meets concrete backends: each is named once, by `impasto_burn::backend`.

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::Autodiff;
use impasto_burn::device::check;
use impasto_burn::{Device, backend};

use crate::config::TrainPrecision;
use crate::error::{TrainError, panic_text};
use crate::job::{Job, Outcome, Request};
use crate::learn::session::learn;
use crate::presets::Preset;

/// The device and the preset of a request that names none: CUDA where this build and this machine have it.
pub fn defaults(request: &Request) -> (String, Preset) {
    let named = request.flags.device.as_ref().or(request.file.device.as_ref());
    let device = match named {
        Some(device) => device.clone(),
        None if cfg!(feature = "cuda") && check(Device::Cuda(0)).is_ok() => "cuda".to_owned(),
        None => "cpu".to_owned(),
    };
    let preset = if device == "cpu" { Preset::Cpu } else { Preset::Gpu };
    (device, preset)
}

/// Learns a style on the job's device.
///
/// # Errors
/// Any [`TrainError`]; a driver's panic becomes [`TrainError::OutOfMemory`] or [`TrainError::Panicked`].
pub fn train(job: &Job) -> Result<Outcome, TrainError> {
    let device: Device = job.config.device.parse()?;
    check(device)?;
    if job.config.precision == TrainPrecision::Bf16 && device == Device::Cpu {
        let reason = "precision bf16 on the CPU, expected f32 there; hint: --precision f32".to_owned();
        return Err(TrainError::Config { reason });
    }
    let (result, first) = with_panics_noted(|| dispatch(job, device));
    result.unwrap_or_else(|panic| Err(from_panic(job, first.unwrap_or_else(|| panic_text(panic.as_ref())))))
}

/// Runs `work` with panics kept off stderr, and returns the first one's text: a panic of one of burn-train's threads
/// is followed by one of ours, which says nothing. With `RUST_BACKTRACE` set, panics are printed as always.
fn with_panics_noted<T>(work: impl FnOnce() -> T) -> (std::thread::Result<T>, Option<String>) {
    let first = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&first);
    let quiet = std::env::var_os("RUST_BACKTRACE").is_none_or(|value| value == "0");
    let previous = Arc::new(panic::take_hook());
    let before = Arc::clone(&previous);
    panic::set_hook(Box::new(move |info| {
        let text = panic_text(info.payload());
        // The loader's threads fence what decoders panic about: that is never why a training ends.
        let fenced = std::thread::current().name().is_some_and(|name| name.starts_with("impasto-data-"));
        if !fenced {
            noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
        if !quiet {
            before(info);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(Box::new(move |info| previous(info)));
    let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
    (result, first)
}

fn dispatch(job: &Job, device: Device) -> Result<Outcome, TrainError> {
    match device {
        #[cfg(feature = "flex")]
        Device::Cpu => learn::<Autodiff<backend::Cpu>>(job, &Default::default(), true),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            learn::<Autodiff<backend::Cuda>>(job, &burn::backend::cuda::CudaDevice::new(index), false)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => learn::<Autodiff<backend::Wgpu>>(job, &backend::wgpu_adapter(index)?, false),
        #[allow(unreachable_patterns)] // reachable when a backend is not built
        other => {
            Err(TrainError::Config { reason: format!("device {other}: not in this build of impasto-train") })
        }
    }
}

/// Whether a panic is about memory: CubeCL's, a driver's, an allocator's.
fn is_about_memory(panic: &str) -> bool {
    const SIGNS: [&str; 6] = [
        "out of memory",
        "outofmemory",
        "out_of_memory",
        "buffer too big",
        "buffertoobig",
        "can't allocate buffer of size",
    ];
    let lower = panic.to_lowercase();
    SIGNS.iter().any(|sign| lower.contains(sign))
}

/// Burn reports a full GPU by panicking; whatever it says of memory gets the advice of what to lower.
fn from_panic(job: &Job, message: String) -> TrainError {
    if is_about_memory(&message) {
        let config = &job.config;
        return TrainError::OutOfMemory {
            device: config.device.clone(),
            reason: impasto_burn::device::memory_asked_for(&message)
                .map_or(message, |megabytes| format!("{megabytes} MiB more were asked for")),
            batch_size: config.batch_size,
            image_size: config.image_size,
            width: config.width,
        };
    }
    TrainError::Panicked { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_is_the_one_that_is_told() {
        let (result, first) = with_panics_noted(|| {
            let inner = std::thread::spawn(|| panic!("the\nreason")).join();
            assert!(inner.is_err(), "the thread panicked");
            panic!("a consequence");
        });
        let result: std::thread::Result<()> = result;
        assert_eq!(panic_text(result.unwrap_err().as_ref()), "a consequence");
        // Another test's panic may be noted in between, but none of them panics on purpose.
        assert_eq!(first.as_deref(), Some("the reason"));
    }

    #[test]
    fn a_full_card_is_known_by_what_burn_says() {
        let said =
            "called `Result::unwrap()` on an `Err` value: can't allocate buffer of size: 786432 No backtrace";
        assert!(is_about_memory(said));
        assert!(is_about_memory("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")"));
        assert!(!is_about_memory("index out of bounds: the len is 0 but the index is 0"));
    }
}
