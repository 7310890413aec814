//! Where a network runs, by the name that a user gives it. Whether it is there, `impasto-burn` knows: this crate knows
//! no driver.

use std::fmt;
use std::str::FromStr;

use crate::error::CheckpointError;

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// `cpu`.
    #[default]
    Cpu,
    /// `cuda`, `cuda:1`: an NVIDIA GPU by its number.
    Cuda(usize),
    /// `wgpu`, `wgpu:1`: a GPU through Vulkan, Metal or DirectX, by its number.
    Wgpu(usize),
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
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason| CheckpointError::Device { text: text.escape_debug().to_string(), reason };
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
        assert_eq!(Device::Cuda(0).to_string(), "cuda");
    }

    #[test]
    fn bad_names_say_what_would_be_right() {
        for (text, reason) in [
            ("", "unknown kind"),
            ("gpu", "unknown kind"),
            ("CUDA", "unknown kind"),
            ("cpu:0", "there is one cpu"),
            ("cuda:", "device's number"),
            ("cuda:x", "device's number"),
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
}
