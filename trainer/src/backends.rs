//! The one place where training meets concrete backends: each is named once, by `impasto_burn::backend`.

use burn::backend::Autodiff;
use impasto_burn::device::check;
use impasto_burn::{Device, backend};

use crate::config::{TrainConfig, TrainPrecision};
use crate::error::{TrainError, panic_text};
use crate::job::{Job, Outcome, Request};
use crate::learn::checkpoint::CheckpointFolder;
use crate::learn::session::learn;
use crate::panics::{Noted, with_panics_noted};
use crate::presets::Preset;
use crate::resume::resume_command;

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
    let device = usable_device(&job.config)?;
    let (ended, noted) = with_panics_noted(|noted| dispatch(job, device, noted));
    judged(&job.config, ended, noted)
}

/// The device of a run: it is in this build, on this machine, and computes in the precision asked for.
pub(crate) fn usable_device(config: &TrainConfig) -> Result<Device, TrainError> {
    let device: Device = config.device.parse()?;
    check(device)?;
    if config.precision == TrainPrecision::Bf16 && device == Device::Cpu {
        let reason = "precision bf16 on the CPU, expected f32 there; hint: --precision f32".to_owned();
        return Err(TrainError::Config { reason });
    }
    Ok(device)
}

/// What came of a training, and of what its threads panicked about.
fn judged(
    config: &TrainConfig,
    ended: std::thread::Result<Result<Outcome, TrainError>>,
    noted: Option<String>,
) -> Result<Outcome, TrainError> {
    match ended {
        Err(panic) => Err(from_panic(config, noted.unwrap_or_else(|| panic_text(panic.as_ref())))),
        // A device may say at last what its thread panicked about first.
        Ok(Err(TrainError::Panicked { message })) => Err(from_panic(config, noted.unwrap_or(message))),
        Ok(Err(error)) => Err(error),
        Ok(Ok(outcome)) => match noted {
            // On a device's thread: its work was not done, and nobody who waited for it was told. (The dashboard's k may
            // come when there was nothing left to end.)
            Some(message) if !message.contains(KILLED) => {
                Err(TrainError::Doubtful { output: config.output.clone(), message })
            }
            _ => Ok(outcome),
        },
    }
}

fn dispatch(job: &Job, device: Device, noted: &Noted) -> Result<Outcome, TrainError> {
    match device {
        #[cfg(feature = "flex")]
        Device::Cpu => learn::<Autodiff<backend::Cpu>>(job, &Default::default(), true, noted),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => {
            let device = burn::backend::cuda::CudaDevice::new(index);
            learn::<Autodiff<backend::Cuda>>(job, &device, false, noted)
        }
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => {
            learn::<Autodiff<backend::Wgpu>>(job, &backend::wgpu_adapter(index)?, false, noted)
        }
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

/// How burn-train's dashboard ends a training at once: by panicking with these words.
const KILLED: &str = "Killing training from user input";

/// What is left of a run that was ended at once.
fn killed(config: &TrainConfig) -> TrainError {
    let saved = CheckpointFolder::new(config.checkpoint_folder(), config.keep_last).complete();
    let kept = match saved.last() {
        Some(step) => format!(
            "the steps after the checkpoint of step {step} are lost, go on with: {}",
            resume_command(config)
        ),
        None => "there was no checkpoint yet, all steps are lost".to_owned(),
    };
    TrainError::Killed { kept }
}

/// Burn reports a full GPU by panicking; whatever it says of memory gets the advice of what to lower.
fn from_panic(config: &TrainConfig, message: String) -> TrainError {
    if message.contains(KILLED) {
        return killed(config);
    }
    if is_about_memory(&message) {
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
    use crate::learn::strategy::Ending;

    fn outcome() -> Outcome {
        Outcome { ending: Ending::Finished, seconds: 1.0, style_distance: None }
    }

    #[test]
    fn a_training_is_not_well_when_a_thread_of_it_panicked() {
        let config = TrainConfig { output: "a.safetensors".into(), ..Preset::Cpu.config() };
        assert_eq!(judged(&config, Ok(Ok(outcome())), None).unwrap(), outcome());
        let error =
            judged(&config, Ok(Ok(outcome())), Some("a buffer is lost".into())).unwrap_err().to_string();
        assert!(error.contains("a.safetensors") && error.contains("a buffer is lost"), "{error}");
    }

    #[test]
    fn what_was_panicked_about_first_is_told_whoever_reports_it() {
        let config = Preset::Cpu.config();
        let full = || Some("can't allocate buffer of size: 2097152".to_owned());
        let told = |ended, noted| judged(&config, ended, noted).unwrap_err().to_string();
        for ended in
            [Err(Box::new("CallError") as _), Ok(Err(TrainError::Panicked { message: "lost".into() }))]
        {
            let error = told(ended, full());
            assert!(error.contains("2 MiB more") && error.contains("--batch-size"), "{error}");
        }
        let error = told(Ok(Err(TrainError::Panicked { message: "out of memory".into() })), None);
        assert!(error.contains("--batch-size"), "a device's own report is read too: {error}");
    }

    #[test]
    fn a_training_that_was_killed_from_the_dashboard_says_what_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = TrainConfig { output: folder.path().join("a.safetensors"), ..Preset::Cpu.config() };
        let told = || {
            let ended = Err(Box::new("SendError(..)") as _);
            judged(&config, ended, Some("Killing training from user input.".into())).unwrap_err().to_string()
        };
        assert!(told().contains("no checkpoint yet, all steps are lost"), "{}", told());
        let step = folder.path().join("a.checkpoints/step-0000000040");
        std::fs::create_dir_all(&step).unwrap();
        std::fs::write(step.join("manifest.json"), "{}").unwrap();
        for part in ["after the checkpoint of step 40 are lost", "--resume", "hint: q, then s"] {
            assert!(told().contains(part), "{}", told());
        }
        assert!(!told().contains("report"), "nobody need hear of it: {}", told());
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
