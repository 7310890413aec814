//! The one place where training meets concrete backends: each is named once, by `impasto_burn::backend`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::Autodiff;
use impasto_burn::{Device, backend};

use crate::config::TrainPrecision;
use crate::error::TrainError;
use crate::job::{Job, Outcome, Request};
use crate::learn::session::learn;
use crate::presets::Preset;

/// The device and the preset of a request that names none: CUDA where this build and this machine have it.
pub fn defaults(request: &Request) -> (String, Preset) {
    let named = request.flags.device.as_ref().or(request.file.device.as_ref());
    let device = match named {
        Some(device) => device.clone(),
        None if cfg!(feature = "cuda") && Device::Cuda(0).check().is_ok() => "cuda".to_owned(),
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
    device.check()?;
    if job.config.precision == TrainPrecision::Bf16 && device == Device::Cpu {
        let reason = "precision bf16 on the CPU, expected f32 there; hint: --precision f32".to_owned();
        return Err(TrainError::Config { reason });
    }
    catch_unwind(AssertUnwindSafe(|| dispatch(job, device)))
        .unwrap_or_else(|panic| Err(from_panic(job, panic.as_ref())))
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
        Device::Wgpu(index) => learn::<Autodiff<backend::Wgpu>>(
            job,
            &match index {
                0 => burn::backend::wgpu::WgpuDevice::DefaultDevice,
                index => burn::backend::wgpu::WgpuDevice::DiscreteGpu(index),
            },
            false,
        ),
        #[allow(unreachable_patterns)] // reachable when a backend is not built
        other => {
            Err(TrainError::Config { reason: format!("device {other}: not in this build of impasto-train") })
        }
    }
}

/// Burn reports a full GPU by panicking; whatever it says of memory gets the advice of what to lower.
fn from_panic(job: &Job, panic: &(dyn Any + Send)) -> TrainError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let message = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = message.to_lowercase();
    if ["out of memory", "outofmemory", "out_of_memory", "buffer too big", "buffertoobig"]
        .iter()
        .any(|sign| lower.contains(sign))
    {
        let config = &job.config;
        return TrainError::OutOfMemory {
            device: config.device.clone(),
            reason: message,
            batch_size: config.batch_size,
            image_size: config.image_size,
            width: config.width,
        };
    }
    TrainError::Panicked { message }
}
