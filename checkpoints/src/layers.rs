//! The layer string of a transform network: `c9s1-32,d64,d128,R128,…,u64,u32,c9s1-3`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;

/// Widest layer an architecture may name; a file that asks for more is refused before anything is allocated.
pub const MAX_CHANNELS: usize = 1024;
/// Largest kernel an architecture may name.
pub const MAX_KERNEL: usize = 15;
/// Most layers an architecture may have.
pub const MAX_LAYERS: usize = 64;

/// One layer of a transform network, as its token in the layer string names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// `cKsS-N`: a K×K convolution with stride S to N channels, then instance norm and ReLU.
    Conv {
        /// Kernel size K (odd).
        kernel: usize,
        /// Stride S, 1 or 2.
        stride: usize,
        /// Output channels N.
        channels: usize,
    },
    /// `dN`: a 3×3 convolution with stride 2 to N channels, then instance norm and ReLU.
    Down {
        /// Output channels N.
        channels: usize,
    },
    /// `RN`: a residual block, `x + norm(conv(relu(norm(conv(x)))))`, with two 3×3 convolutions of N channels.
    Residual {
        /// Channels N, equal to the layer's input.
        channels: usize,
    },
    /// `uN`: doubling of height and width and a 3×3 convolution to N channels, then instance norm and ReLU.
    Up {
        /// Output channels N.
        channels: usize,
    },
}

impl Layer {
    /// Channels that come out of the layer.
    pub fn channels(&self) -> usize {
        match *self {
            Layer::Conv { channels, .. }
            | Layer::Down { channels }
            | Layer::Residual { channels }
            | Layer::Up { channels } => channels,
        }
    }

    /// Kernel size of the layer's convolutions.
    pub fn kernel(&self) -> usize {
        match *self {
            Layer::Conv { kernel, .. } => kernel,
            _ => 3,
        }
    }

    /// Stride of the layer's convolution (1 for residual and upsampling layers).
    pub fn stride(&self) -> usize {
        match *self {
            Layer::Conv { stride, .. } => stride,
            Layer::Down { .. } => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Layer::Conv { kernel, stride, channels } => write!(f, "c{kernel}s{stride}-{channels}"),
            Layer::Down { channels } => write!(f, "d{channels}"),
            Layer::Residual { channels } => write!(f, "R{channels}"),
            Layer::Up { channels } => write!(f, "u{channels}"),
        }
    }
}

impl FromStr for Layer {
    type Err = CheckpointError;

    fn from_str(token: &str) -> Result<Self, Self::Err> {
        let bad = || CheckpointError::Architecture {
            reason: format!("layer `{}` is none of cKsS-N, dN, RN, uN", token.escape_debug()),
        };
        // Plain decimal digits only: `usize::from_str` would let "+8" through, and printing would change it.
        let number = |text: &str| -> Result<usize, CheckpointError> {
            let plain = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
            if !plain || text.starts_with('0') {
                return Err(bad());
            }
            text.parse().map_err(|_| bad())
        };
        let mut rest = token.chars();
        let kind = rest.next().ok_or_else(bad)?;
        let rest = rest.as_str();
        match kind {
            'c' => {
                let (size, channels) = rest.split_once('-').ok_or_else(bad)?;
                let (kernel, stride) = size.split_once('s').ok_or_else(bad)?;
                Ok(Layer::Conv {
                    kernel: number(kernel)?,
                    stride: number(stride)?,
                    channels: number(channels)?,
                })
            }
            'd' => Ok(Layer::Down { channels: number(rest)? }),
            'R' => Ok(Layer::Residual { channels: number(rest)? }),
            'u' => Ok(Layer::Up { channels: number(rest)? }),
            _ => Err(bad()),
        }
    }
}

/// The layers of a transform network, printed and parsed as the field writes them:
/// `c9s1-32,d64,d128,R128,…,u64,u32,c9s1-3`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Checks and wraps a list of layers.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] names the layer and the rule it breaks.
    pub fn new(layers: Vec<Layer>) -> Result<Self, CheckpointError> {
        check_layers(&layers)?;
        Ok(Layers(layers))
    }

    /// The layers in order.
    pub fn as_slice(&self) -> &[Layer] {
        &self.0
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, layer) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{layer}")?;
        }
        Ok(())
    }
}

impl FromStr for Layers {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.split(',').count() > MAX_LAYERS {
            return Err(broken(format!("more than {MAX_LAYERS} layers")));
        }
        Layers::new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<String> for Layers {
    type Error = CheckpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Layers> for String {
    fn from(layers: Layers) -> String {
        layers.to_string()
    }
}

pub(crate) fn broken(reason: String) -> CheckpointError {
    CheckpointError::Architecture { reason }
}

/// The rules a layer list must keep, so that whatever parses also runs.
pub(crate) fn check_layers(layers: &[Layer]) -> Result<(), CheckpointError> {
    if layers.len() > MAX_LAYERS {
        return Err(broken(format!("more than {MAX_LAYERS} layers")));
    }
    match layers.last() {
        Some(Layer::Conv { stride: 1, channels: 3, .. }) => {}
        _ => return Err(broken("the last layer must be cKs1-3, a convolution to the three colours".into())),
    }
    let mut channels = 3;
    let mut scale: usize = 0; // halvings in force
    for layer in layers {
        if layer.channels() == 0 {
            return Err(broken(format!("`{layer}` has no channels")));
        }
        if layer.channels() > MAX_CHANNELS {
            return Err(broken(format!("`{layer}` has more than {MAX_CHANNELS} channels")));
        }
        if layer.kernel() % 2 == 0 || layer.kernel() > MAX_KERNEL {
            return Err(broken(format!("`{layer}`: a kernel is odd and at most {MAX_KERNEL}")));
        }
        match layer {
            Layer::Conv { stride, .. } if !(1..=2).contains(stride) => {
                return Err(broken(format!("`{layer}`: a stride is 1 or 2")));
            }
            Layer::Residual { channels: own } if *own != channels => {
                return Err(broken(format!(
                    "`{layer}` after {channels} channels: a residual block keeps its input's channels"
                )));
            }
            Layer::Up { .. } => {
                scale = scale
                    .checked_sub(1)
                    .ok_or_else(|| broken(format!("`{layer}` makes the picture larger than the input")))?;
            }
            _ => {}
        }
        if layer.stride() == 2 {
            scale += 1;
            if scale > 4 {
                return Err(broken(format!("`{layer}` is the fifth halving; at most 4 are supported")));
            }
        }
        channels = layer.channels();
    }
    if scale != 0 {
        return Err(broken("fewer doublings (u) than halvings (d, s2): the output would be smaller".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_and_parsing_are_inverse() {
        let text = "c9s1-32,d64,d128,R128,R128,R128,R128,R128,u64,u32,c9s1-3";
        assert_eq!(text.parse::<Layers>().unwrap().to_string(), text);
    }

    #[test]
    fn broken_strings_name_the_rule() {
        for (text, expected) in [
            ("", "none of cKsS-N"),
            ("c9s1-8", "last layer"),
            ("c9s1-8,c9s1-4", "last layer"),
            ("c8s1-8,c9s1-3", "kernel is odd"),
            ("c9s3-8,c9s1-3", "stride is 1 or 2"),
            ("c9s1-8,R16,c9s1-3", "keeps its input's channels"),
            ("c9s1-8,u8,c9s1-3", "larger than the input"),
            ("c9s1-8,d8,c9s1-3", "fewer doublings"),
            ("c9s1-8,x8,c9s1-3", "`x8`"),
            ("c9s1-+8,c9s1-3", "none of"),
            ("c9s1-08,c9s1-3", "none of"),
            ("c9s1-2048,c9s1-3", "more than 1024"),
            ("c99999s1-8,c9s1-3", "kernel"),
            ("c9s1-0,c9s1-3", "none of"),
        ] {
            let error = text.parse::<Layers>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(Layers::new(vec![Layer::Residual { channels: 0 }]).is_err());
        let endless = vec!["c3s1-3"; 65].join(",");
        assert!(endless.parse::<Layers>().unwrap_err().to_string().contains("more than 64"));
    }
}
