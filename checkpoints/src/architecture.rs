//! The architecture of a transform network: layers and conventions, and what follows from them (sizes, parameters,
//! cost, the smallest picture, the names of the tensors).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::CheckpointError;
use crate::layers::{Layer, Layers, broken, check_layers};

/// What a convolution sees beyond the picture's border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// The picture mirrored at its outermost pixel (`ReflectionPad2d(k / 2)`), before every convolution.
    Reflect,
    /// Zeros, TensorFlow's `SAME`: with stride 2 on an even size, none before and one after.
    ZeroSame,
}

/// How a `uN` layer doubles its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upsampling {
    /// Nearest neighbour ×2, then a 3×3 convolution of stride 1.
    NearestConv,
    /// A transposed 3×3 convolution of stride 2 whose 2n+1 outputs are cropped to 2n: under
    /// [`Padding::ZeroSame`] at the end (TensorFlow), under [`Padding::Reflect`] at the beginning
    /// (PyTorch's `padding=1, output_padding=1`).
    Transposed,
}

/// What happens to the last convolution's result, before scale and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Nothing.
    Linear,
    /// Hyperbolic tangent.
    Tanh,
}

/// From the last layer to RGB 0..255: `activation(x) · scale + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Activation of the last layer.
    pub activation: Activation,
    /// Factor after the activation.
    pub scale: f32,
    /// Summand after the factor, in 0..255 units.
    pub offset: f32,
}

/// The range of RGB values the network was trained to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputRange {
    /// 0..255.
    Rgb255,
    /// 0..1.
    Rgb01,
    /// `(rgb01 − mean) / std` with ImageNet's mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225).
    ImagenetNormalized,
}

impl InputRange {
    /// Per channel factor and summand that take RGB 0..255 to this range: `x · factor + summand`.
    pub fn from_rgb255(self) -> [(f32, f32); 3] {
        const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
        const STD: [f32; 3] = [0.229, 0.224, 0.225];
        match self {
            InputRange::Rgb255 => [(1.0, 0.0); 3],
            InputRange::Rgb01 => [(1.0 / 255.0, 0.0); 3],
            InputRange::ImagenetNormalized => {
                std::array::from_fn(|c| (1.0 / (255.0 * STD[c]), -MEAN[c] / STD[c]))
            }
        }
    }
}

/// A transform network without its weights: layers and conventions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The layer string.
    pub layers: Layers,
    /// Padding of every convolution.
    pub padding: Padding,
    /// How `uN` layers double.
    pub upsampling: Upsampling,
    /// ε under the root of every instance norm.
    pub norm_epsilon: f32,
    /// Is there an instance norm after the last convolution?
    pub output_norm: bool,
    /// From the last layer to RGB 0..255.
    pub output: Output,
    /// What the first layer sees.
    pub input: InputRange,
}

impl Architecture {
    /// The network of Johnson et al. 2016 as the PyTorch example trains it, `width` channels in its first
    /// layer: reflection padding, nearest ×2 then convolution, ε 1e-5, no norm after the last convolution.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] when `width` is 0 or over a quarter of [`crate::MAX_CHANNELS`].
    pub fn johnson(width: usize) -> Result<Self, CheckpointError> {
        let (w, w2, w4) = (width, width.saturating_mul(2), width.saturating_mul(4));
        let text = format!("c9s1-{w},d{w2},d{w4},R{w4},R{w4},R{w4},R{w4},R{w4},u{w2},u{w},c9s1-3");
        Ok(Architecture {
            layers: text.parse()?,
            padding: Padding::Reflect,
            upsampling: Upsampling::NearestConv,
            norm_epsilon: 1e-5,
            output_norm: false,
            output: Output { activation: Activation::Linear, scale: 1.0, offset: 0.0 },
            input: InputRange::Rgb255,
        })
    }

    /// Checks what the types do not: finite numbers, a positive ε.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] names the field.
    pub fn validate(&self) -> Result<(), CheckpointError> {
        check_layers(self.layers.as_slice())?;
        if !(self.norm_epsilon.is_finite() && self.norm_epsilon > 0.0) {
            return Err(broken(format!("norm_epsilon is {}, expected a positive number", self.norm_epsilon)));
        }
        for (name, value) in [("output.scale", self.output.scale), ("output.offset", self.output.offset)] {
            if !value.is_finite() {
                return Err(broken(format!("{name} is {value}, expected a finite number")));
            }
        }
        Ok(())
    }

    /// Parameters of the network.
    pub fn parameter_count(&self) -> usize {
        self.tensors().iter().map(|t| t.shape.iter().product::<usize>()).sum()
    }

    /// Multiply-adds of all convolutions per pixel of the input picture (borders and rounding of odd
    /// sizes neglected).
    pub fn multiply_adds_per_pixel(&self) -> f64 {
        let mut total = 0.0;
        let mut channels = 3;
        let mut scale = 1.0; // pixels of the current plane per input pixel
        for layer in self.layers.as_slice() {
            let taps = (layer.kernel() * layer.kernel()) as f64;
            let products = taps * channels as f64 * layer.channels() as f64;
            scale /= (layer.stride() * layer.stride()) as f64;
            match layer {
                Layer::Residual { .. } => total += 2.0 * products * scale,
                // A transposed kernel meets every input pixel once, a nearest-doubled one every output pixel.
                Layer::Up { .. } if self.upsampling == Upsampling::Transposed => {
                    total += products * scale;
                    scale *= 4.0;
                }
                Layer::Up { .. } => {
                    scale *= 4.0;
                    total += products * scale;
                }
                _ => total += products * scale,
            }
            channels = layer.channels();
        }
        total
    }

    /// Factor by which the plane inside the network is smallest: 4 for two halvings.
    pub fn downscale(&self) -> usize {
        let (mut scale, mut deepest) = (1, 1);
        for layer in self.layers.as_slice() {
            scale *= layer.stride();
            deepest = deepest.max(scale);
            if matches!(layer, Layer::Up { .. }) {
                scale /= 2;
            }
        }
        deepest
    }

    /// Smallest height and width the network can run on: reflection by `p` needs more than `p` pixels.
    /// Smaller pictures are edge-padded to it first. 5 for the default network.
    pub fn minimum_size(&self) -> usize {
        let fits = |size: usize| {
            let mut n = size;
            for layer in self.layers.as_slice() {
                if matches!(layer, Layer::Up { .. }) {
                    n *= 2;
                }
                let reflects = self.padding == Padding::Reflect
                    && !(matches!(layer, Layer::Up { .. }) && self.upsampling == Upsampling::Transposed);
                if reflects && n <= layer.kernel() / 2 {
                    return false;
                }
                n = n.div_ceil(layer.stride());
            }
            true
        };
        (1..).find(|&size| fits(size)).unwrap_or(1)
    }

    /// Size that comes out of the network for an input size: each halving rounds up, so it is at least
    /// the input's; the result is cropped right and bottom.
    pub fn output_size(&self, input: usize) -> usize {
        self.layers.as_slice().iter().fold(input, |n, layer| match layer {
            Layer::Up { .. } => n * 2,
            _ => n.div_ceil(layer.stride()),
        })
    }

    /// Name and shape of every tensor, in the order of the file's layers. Names are the PyTorch example's:
    /// `conv1.conv2d.weight`, `in1.weight`, `res1.conv1.conv2d.weight`, …, `deconv3.conv2d.bias`.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut specs = Vec::new();
        for block in self.blocks() {
            match block {
                Block::Conv { conv, norm, .. } => {
                    conv.push_specs(&mut specs);
                    if let Some(norm) = norm {
                        norm.push_specs(&mut specs);
                    }
                }
                Block::Residual { convs, norms } => {
                    for (conv, norm) in convs.iter().zip(&norms) {
                        conv.push_specs(&mut specs);
                        norm.push_specs(&mut specs);
                    }
                }
            }
        }
        specs
    }

    /// The network as named convolutions and norms: the one walk that the file, the CPU engine and the
    /// Burn module share.
    pub fn blocks(&self) -> Vec<Block> {
        let layers = self.layers.as_slice();
        let mut blocks = Vec::with_capacity(layers.len());
        let (mut convs, mut deconvs, mut norms, mut residuals) = (0, 0, 0, 0);
        let mut channels = 3;
        let mut decoding = false; // names change from `conv` to `deconv` at the first `R` or `u`
        for (index, layer) in layers.iter().enumerate() {
            let out = layer.channels();
            if let Layer::Residual { .. } = layer {
                decoding = true;
                residuals += 1;
                let part = |kind: &str, n: usize| format!("res{residuals}.{kind}{n}");
                blocks.push(Block::Residual {
                    convs: [1, 2].map(|n| ConvSpec {
                        name: format!("{}.conv2d", part("conv", n)),
                        kernel: 3,
                        input: out,
                        output: out,
                        kind: ConvKind::Strided(1),
                    }),
                    norms: [1, 2].map(|n| NormSpec { name: part("in", n), channels: out }),
                });
                continue;
            }
            let kind = match (layer, self.upsampling) {
                (Layer::Up { .. }, Upsampling::NearestConv) => ConvKind::NearestDoubled,
                (Layer::Up { .. }, Upsampling::Transposed) => ConvKind::Transposed,
                _ => ConvKind::Strided(layer.stride()),
            };
            decoding |= matches!(layer, Layer::Up { .. });
            let name = if decoding {
                deconvs += 1;
                format!("deconv{deconvs}.conv2d")
            } else {
                convs += 1;
                format!("conv{convs}.conv2d")
            };
            let last = index + 1 == layers.len();
            let norm = (!last || self.output_norm).then(|| {
                norms += 1;
                NormSpec { name: format!("in{norms}"), channels: out }
            });
            blocks.push(Block::Conv {
                conv: ConvSpec { name, kernel: layer.kernel(), input: channels, output: out, kind },
                norm,
                relu: !last,
            });
            channels = out;
        }
        blocks
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layers.fmt(f)
    }
}

/// A step of the network with the names of its tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Convolution, then perhaps a norm, then perhaps ReLU.
    Conv {
        /// The convolution.
        conv: ConvSpec,
        /// The instance norm after it (absent after the last convolution unless `output_norm`).
        norm: Option<NormSpec>,
        /// Whether ReLU follows (everywhere but at the end).
        relu: bool,
    },
    /// `x + norm2(conv2(relu(norm1(conv1(x)))))`.
    Residual {
        /// The two convolutions.
        convs: [ConvSpec; 2],
        /// The two norms.
        norms: [NormSpec; 2],
    },
}

/// How a convolution moves over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvKind {
    /// An ordinary convolution with this stride.
    Strided(usize),
    /// Stride 1 over the nearest-neighbour doubled input.
    NearestDoubled,
    /// Transposed, stride 2.
    Transposed,
}

/// One convolution: `NAME.weight` and `NAME.bias`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvSpec {
    /// Prefix of its tensors' names, `conv1.conv2d`.
    pub name: String,
    /// Kernel height and width.
    pub kernel: usize,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// How it moves over the input.
    pub kind: ConvKind,
}

impl ConvSpec {
    /// Shape of the weight: `[out, in, k, k]`, for a transposed convolution `[in, out, k, k]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        let k = self.kernel;
        match self.kind {
            ConvKind::Transposed => [self.input, self.output, k, k],
            _ => [self.output, self.input, k, k],
        }
    }

    /// Inputs that one output value sums over.
    pub fn fan_in(&self) -> usize {
        self.input * self.kernel * self.kernel
    }

    fn push_specs(&self, specs: &mut Vec<TensorSpec>) {
        specs.push(TensorSpec {
            name: format!("{}.weight", self.name),
            shape: self.weight_shape().to_vec(),
            role: Role::ConvWeight { fan_in: self.fan_in() },
        });
        specs.push(TensorSpec {
            name: format!("{}.bias", self.name),
            shape: vec![self.output],
            role: Role::ConvBias { fan_in: self.fan_in() },
        });
    }
}

/// One instance norm: `NAME.weight` and `NAME.bias`, one value a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormSpec {
    /// Prefix of its tensors' names, `in1`.
    pub name: String,
    /// Channels.
    pub channels: usize,
}

impl NormSpec {
    fn push_specs(&self, specs: &mut Vec<TensorSpec>) {
        for (part, role) in [("weight", Role::NormWeight), ("bias", Role::NormBias)] {
            specs.push(TensorSpec {
                name: format!("{}.{part}", self.name),
                shape: vec![self.channels],
                role,
            });
        }
    }
}

/// What a tensor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Kernel of a convolution.
    ConvWeight {
        /// Inputs that one output sums over.
        fan_in: usize,
    },
    /// Bias of a convolution.
    ConvBias {
        /// As for the weight.
        fan_in: usize,
    },
    /// Factor of an instance norm.
    NormWeight,
    /// Summand of an instance norm.
    NormBias,
}

/// Name, shape and role of one tensor of a style model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Key in the file.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_s_networks_have_the_known_parameter_counts() {
        for (width, parameters) in [(32, 1_679_235), (16, 424_899), (8, 108_771)] {
            assert_eq!(Architecture::johnson(width).unwrap().parameter_count(), parameters, "width {width}");
        }
    }

    #[test]
    fn the_full_network_costs_94_gflop_at_640_by_480() {
        let flop = 2.0 * 640.0 * 480.0 * Architecture::johnson(32).unwrap().multiply_adds_per_pixel();
        assert!((flop / 1e9 - 94.0).abs() < 1.0, "{flop}");
    }

    #[test]
    fn sizes_of_the_default_network() {
        let network = Architecture::johnson(16).unwrap();
        assert_eq!(network.minimum_size(), 5);
        assert_eq!(network.downscale(), 4);
        for (input, output) in [(5, 8), (8, 8), (641, 644), (383, 384)] {
            assert_eq!(network.output_size(input), output);
        }
    }
}
