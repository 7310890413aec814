//! The devices a user can name, and whether they are there: asked before a driver crate can panic about it.

use std::fmt;
use std::str::FromStr;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::backend;
use crate::error::BurnError;

/// Where tensors live and networks run, chosen at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Device {
    /// `cpu`.
    Cpu,
    /// `cuda`, `cuda:1`: an NVIDIA GPU by its number.
    Cuda(usize),
    /// `wgpu`, `wgpu:1`: a GPU through Vulkan, Metal or DirectX, by its place in [`available`].
    Wgpu(usize),
}

impl Device {
    /// Whether the device can be used: its backend is built in, its driver loads, the card is there.
    ///
    /// # Errors
    /// [`BurnError::NotBuilt`] or [`BurnError::Unavailable`], one line with the way out.
    pub fn check(self) -> Result<(), BurnError> {
        match self {
            #[cfg(feature = "flex")]
            Device::Cpu => Ok(()),
            #[cfg(not(feature = "flex"))]
            Device::Cpu => Err(self.not_built("Burn's CPU backend", "burn")),
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => backend::cuda::check(index).map_err(|reason| reason.of(self)),
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(self.not_built("CUDA", "cuda")),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(index) => backend::wgpu::check(index).map_err(|reason| reason.of(self)),
            #[cfg(not(feature = "wgpu"))]
            Device::Wgpu(_) => Err(self.not_built("wgpu", "wgpu")),
        }
    }

    #[cfg(not(all(feature = "flex", feature = "cuda", feature = "wgpu")))]
    fn not_built(self, name: &'static str, feature: &'static str) -> BurnError {
        BurnError::NotBuilt { device: self.to_string(), name, feature }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Wgpu(0) => f.write_str("wgpu"),
            Device::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = BurnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason| BurnError::BadDevice { text: text.escape_debug().to_string(), reason };
        let (kind, index) = match text.split_once(':') {
            None => (text, None),
            Some((kind, index)) => {
                // Plain digits: `usize::from_str` would let "+1" through. Burn counts devices in 16 bits.
                let plain = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
                let number = plain.then(|| index.parse::<u16>().ok()).flatten();
                (kind, Some(number.ok_or_else(|| bad("after `:` stands the device's number"))?.into()))
            }
        };
        match (kind, index) {
            ("cpu", None) => Ok(Device::Cpu),
            ("cpu", Some(_)) => Err(bad("there is one cpu")),
            ("cuda", index) => Ok(Device::Cuda(index.unwrap_or(0))),
            ("wgpu", index) => Ok(Device::Wgpu(index.unwrap_or(0))),
            _ => Err(bad("unknown kind")),
        }
    }
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
    if Device::Cpu.check().is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_and_parsing_are_inverse() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Wgpu(0), Device::Wgpu(12)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("wgpu:0".parse::<Device>().unwrap(), Device::Wgpu(0));
        assert_eq!("cuda:1".parse::<Device>().unwrap(), Device::Cuda(1));
    }

    #[test]
    fn bad_names_say_what_would_be_right() {
        for (text, reason) in [
            ("", "unknown kind"),
            ("gpu", "unknown kind"),
            ("CUDA", "unknown kind"),
            ("cpu:0", "there is one cpu"),
            ("cuda:", "device's number"),
            ("cuda:-1", "device's number"),
            ("cuda:+1", "device's number"),
            ("cuda:1:2", "device's number"),
            ("wgpu:99999999999999999999", "device's number"),
            ("wgpu:70000", "device's number"),
            ("c\nuda", "unknown kind"),
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("hint: cpu, cuda"), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_cpu_is_there() {
        Device::Cpu.check().unwrap();
        assert_eq!(available()[0].device, Device::Cpu);
    }

    #[test]
    fn what_is_not_there_is_one_line_with_a_way_out() {
        // The 65,000th card is there on no machine; without the feature, no card is.
        for device in [Device::Cuda(65_000), Device::Wgpu(65_000)] {
            let error = device.check().unwrap_err();
            assert!(matches!(error, BurnError::NotBuilt { .. } | BurnError::Unavailable { .. }), "{error:?}");
            let line = error.to_string();
            assert!(line.contains(&device.to_string()) && line.contains("hint: "), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
