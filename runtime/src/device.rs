//! Where a picture is painted: the CPU engine, or a GPU through Burn when the build has it.

use std::fmt;
use std::str::FromStr;

use crate::error::RuntimeError;

/// A device by name: `cpu`, `cuda`, `cuda:1`, `wgpu`, `wgpu:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// This crate's own engine.
    #[default]
    Cpu,
    /// An NVIDIA GPU by index (feature `cuda`).
    Cuda(usize),
    /// Any GPU by index, through wgpu (feature `wgpu`).
    Wgpu(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Wgpu(index) => write!(f, "wgpu:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            RuntimeError::Device(format!(
                "`{}` is no device; expected cpu, cuda, cuda:N, wgpu or wgpu:N",
                text.escape_debug()
            ))
        };
        let (kind, index) = text.split_once(':').unwrap_or((text, "0"));
        let index = index.parse().map_err(|_| bad())?;
        match kind {
            "cpu" if !text.contains(':') => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(index)),
            "wgpu" => Ok(Device::Wgpu(index)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for (text, printed) in
            [("cpu", "cpu"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("wgpu:2", "wgpu:2")]
        {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), printed);
        }
        for text in ["", "gpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
