//! The CPU engine: runs a transform network on one frame.
//!
//! This is the plain path: safe Rust, f32, channels-last, one pass after another. It is the reference that
//! every faster kernel is tested against, and it can round where bf16 kernels round ([`Precision::Bf16`]).
//!
//! How a frame travels: bytes → input range → for each convolution a *prepared* plane (padded, doubled or
//! spread, so that every kind of convolution becomes a plain valid one) → convolution by rows → instance norm,
//! ReLU, residual in place → … → `activation(x) · scale + offset`, cropped to the frame.

mod conv;
mod norm;
mod prepare;
mod threads;

use std::fmt;
use std::str::FromStr;

use impasto_checkpoints::{
    Activation, Architecture, Block, CheckpointError, ConvKind, ConvSpec, NormSpec, StyleModel,
};

use crate::error::RuntimeError;
use conv::PackedConv;
use norm::Norm;
use prepare::{IndexMap, Plane};
use threads::Threads;
pub use threads::default_threads;

/// Number type of the convolutions' inputs and weights. Sums, norms and outputs are f32 in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// bfloat16 inputs and weights. The CPU engine emulates it (same rounding points, no gain in speed); GPUs
    /// compute in half precision.
    Bf16,
    /// The fastest that loses nothing visible: f32 on the CPU for now.
    #[default]
    Auto,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Auto => "auto",
        })
    }
}

impl FromStr for Precision {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "auto" => Ok(Precision::Auto),
            _ => Err(RuntimeError::Device(format!(
                "`{}` is no precision; expected f32, bf16 or auto",
                text.escape_debug()
            ))),
        }
    }
}

/// A step of the network with its weights packed.
enum Step {
    Conv { conv: PackedConv, norm: Option<Norm>, relu: bool },
    Residual { convs: [PackedConv; 2], norms: [Norm; 2] },
}

/// A style model made ready to run on the CPU. Immutable: any number of threads may share one, each with a
/// [`Scratch`] of its own.
pub struct Engine {
    architecture: Architecture,
    steps: Vec<Step>,
    minimum_size: usize,
    bf16: bool,
    threads: Threads,
}

/// The buffers of one frame in flight, reused from frame to frame.
#[derive(Default)]
pub struct Scratch {
    /// The current activations.
    current: Plane,
    /// What a residual block adds to them.
    branch: Plane,
    /// The next convolution's padded input.
    prepared: Plane,
    /// A convolution's result.
    result: Plane,
}

impl Engine {
    /// Packs a model's weights.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] when the model lacks a tensor of its architecture (a [`StyleModel`] never does).
    pub fn new(model: &StyleModel, precision: Precision, threads: usize) -> Result<Self, RuntimeError> {
        let architecture = model.architecture().clone();
        let bf16 = precision == Precision::Bf16;
        let pack = |spec: &ConvSpec| -> Result<PackedConv, CheckpointError> {
            let weight = model.values(&format!("{}.weight", spec.name))?;
            let bias = model.values(&format!("{}.bias", spec.name))?;
            Ok(PackedConv::new(spec, weight, bias, bf16))
        };
        let norm = |spec: &NormSpec| -> Result<Norm, CheckpointError> {
            Ok(Norm {
                weight: model.values(&format!("{}.weight", spec.name))?.to_vec(),
                bias: model.values(&format!("{}.bias", spec.name))?.to_vec(),
                epsilon: architecture.norm_epsilon,
            })
        };
        let mut steps = Vec::new();
        for block in architecture.blocks() {
            steps.push(match block {
                Block::Conv { conv, norm: after, relu } => {
                    Step::Conv { conv: pack(&conv)?, norm: after.as_ref().map(norm).transpose()?, relu }
                }
                Block::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => Step::Residual {
                    convs: [pack(&conv1)?, pack(&conv2)?],
                    norms: [norm(&norm1)?, norm(&norm2)?],
                },
            });
        }
        let minimum_size = architecture.minimum_size();
        Ok(Engine { architecture, steps, minimum_size, bf16, threads: Threads::new(threads) })
    }

    /// Paints one frame.
    ///
    /// # Shapes
    /// - `rgb`: `[height, width, 3]`, bytes
    /// - `painted`: the same, f32
    ///
    /// # Units
    /// RGB 0..255; `painted` is neither rounded nor clamped.
    ///
    /// # Errors
    /// [`RuntimeError::FrameSize`] when a side is 0 or a slice is not `height · width · 3` long.
    pub fn run(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        scratch: &mut Scratch,
        painted: &mut [f32],
    ) -> Result<(), RuntimeError> {
        let size = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        for bytes in [rgb.len(), painted.len()] {
            if width == 0 || height == 0 || size != Some(bytes) {
                return Err(RuntimeError::FrameSize { width, height, bytes });
            }
        }
        self.load(rgb, width, height, scratch);
        for step in &self.steps {
            match step {
                Step::Conv { conv, norm, relu } => {
                    self.convolve(conv, false, scratch);
                    std::mem::swap(&mut scratch.current, &mut scratch.result);
                    if let Some(norm) = norm {
                        norm.apply(&mut scratch.current, *relu, &self.threads);
                    } else if *relu {
                        norm::relu(&mut scratch.current, &self.threads);
                    }
                }
                Step::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => {
                    self.convolve(conv1, false, scratch);
                    std::mem::swap(&mut scratch.branch, &mut scratch.result);
                    norm1.apply(&mut scratch.branch, true, &self.threads);
                    self.convolve(conv2, true, scratch);
                    norm2.apply(&mut scratch.result, false, &self.threads);
                    norm::add(&mut scratch.current, &scratch.result, &self.threads);
                }
            }
        }
        self.finish(width, height, &scratch.current, painted);
        Ok(())
    }

    /// Bytes to the network's input range; a picture below the smallest size gets its last row and column
    /// repeated.
    fn load(&self, rgb: &[u8], width: usize, height: usize, scratch: &mut Scratch) {
        let range = self.architecture.input.from_rgb255();
        let (padded_width, padded_height) = (width.max(self.minimum_size), height.max(self.minimum_size));
        let plane = &mut scratch.current;
        plane.reshape(padded_height, padded_width, 3);
        self.threads.for_each_row(&mut plane.data, padded_width * 3, |y, row| {
            let source = &rgb[y.min(height - 1) * width * 3..][..width * 3];
            for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let from = x.min(width - 1) * 3;
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let (factor, summand) = range[channel];
                    *value = f32::from(source[from + channel]) * factor + summand;
                }
            }
        });
    }

    /// `result = conv(source)`, where the source is the branch of a residual block or the current plane.
    fn convolve(&self, conv: &PackedConv, from_branch: bool, scratch: &mut Scratch) {
        let source = if from_branch { &scratch.branch } else { &scratch.current };
        let padding = self.architecture.padding;
        let rows = IndexMap::new(conv.kind, conv.kernel, padding, source.height);
        let columns = IndexMap::new(conv.kind, conv.kernel, padding, source.width);
        prepare::prepare(source, &rows, &columns, self.bf16, &mut scratch.prepared, &self.threads);
        let stride = match conv.kind {
            ConvKind::Strided(stride) => stride,
            ConvKind::NearestDoubled | ConvKind::Transposed => 1,
        };
        conv.run(
            &scratch.prepared,
            stride,
            rows.outputs,
            columns.outputs,
            &mut scratch.result,
            &self.threads,
        );
    }

    /// `activation(x) · scale + offset`, cropped right and bottom to the frame.
    fn finish(&self, width: usize, height: usize, plane: &Plane, painted: &mut [f32]) {
        debug_assert!(plane.width >= width && plane.height >= height && plane.channels == 3);
        let output = self.architecture.output;
        self.threads.for_each_row(painted, width * 3, |y, row| {
            let source = &plane.data[y * plane.width * 3..][..width * 3];
            for (value, &x) in row.iter_mut().zip(source) {
                let x = match output.activation {
                    Activation::Linear => x,
                    Activation::Tanh => x.tanh(),
                };
                *value = x * output.scale + output.offset;
            }
        });
    }
}

/// Rounds to the nearest bfloat16, ties to even, as the hardware's conversions do. For finite values.
#[inline]
fn round_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}
