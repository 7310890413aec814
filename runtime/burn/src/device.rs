//! Whether the devices that a user can name are there: asked before a driver crate can panic about it.

pub use impasto_checkpoints::Device;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::backend;
use crate::error::BurnError;

/// Whether a device can be used: its backend is built in, its driver loads, the card is there.
///
/// # Errors
/// [`BurnError::NotBuilt`] or [`BurnError::Unavailable`], one line with the way out.
pub fn check(device: Device) -> Result<(), BurnError> {
    match device {
        #[cfg(feature = "flex")]
        Device::Cpu => Ok(()),
        #[cfg(not(feature = "flex"))]
        Device::Cpu => Err(not_built(device, "Burn's CPU backend", "burn")),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => backend::cuda::check(index).map_err(|reason| reason.of(device)),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(not_built(device, "CUDA", "cuda")),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => backend::wgpu::check(index).map_err(|reason| reason.of(device)),
        #[cfg(not(feature = "wgpu"))]
        Device::Wgpu(_) => Err(not_built(device, "wgpu", "wgpu")),
    }
}

#[cfg(not(all(feature = "flex", feature = "cuda", feature = "wgpu")))]
fn not_built(device: Device, name: &'static str, feature: &'static str) -> BurnError {
    BurnError::NotBuilt { device: device.to_string(), name, feature }
}

/// A device that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// How to ask for it.
    pub device: Device,
    /// What its driver calls it.
    pub name: String,
}

/// The devices that this build can use on this machine, the CPU first.
pub fn available() -> Vec<DeviceInfo> {
    let mut found = Vec::new();
    if check(Device::Cpu).is_ok() {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
        found.push(DeviceInfo { device: Device::Cpu, name: format!("CPU, {threads} threads") });
    }
    #[cfg(feature = "cuda")]
    if let Ok(names) = backend::cuda::names() {
        let devices = names.into_iter().enumerate();
        found.extend(devices.map(|(index, name)| DeviceInfo { device: Device::Cuda(index), name }));
    }
    #[cfg(feature = "wgpu")]
    {
        let devices = backend::wgpu::names().into_iter().enumerate();
        found.extend(devices.map(|(index, name)| DeviceInfo { device: Device::Wgpu(index), name }));
    }
    found
}

/// Why a device cannot be used, before its name is known.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) struct Missing {
    pub(crate) reason: String,
    pub(crate) hint: &'static str,
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Missing {
    pub(crate) fn new(reason: impl Into<String>, hint: &'static str) -> Self {
        Missing { reason: reason.into(), hint }
    }

    pub(crate) fn of(self, device: Device) -> BurnError {
        BurnError::Unavailable { device: device.to_string(), reason: self.reason, hint: self.hint }
    }
}

/// MiB of device memory that were asked for in vain, if that is what a panic of CubeCL is about.
#[must_use]
pub fn memory_asked_for(panic: &str) -> Option<u64> {
    let (_, size) = panic.split_once("can't allocate buffer of size: ")?;
    let bytes: u64 = size.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_there() {
        check(Device::Cpu).unwrap();
        assert_eq!(available()[0].device, Device::Cpu);
    }

    #[test]
    fn what_is_not_there_is_one_line_with_a_way_out() {
        // The 65,000th card is there on no machine; without the feature, no card is.
        for device in [Device::Cuda(65_000), Device::Wgpu(65_000)] {
            let error = check(device).unwrap_err();
            assert!(matches!(error, BurnError::NotBuilt { .. } | BurnError::Unavailable { .. }), "{error:?}");
            let line = error.to_string();
            assert!(line.contains(&device.to_string()) && line.contains("hint: "), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
