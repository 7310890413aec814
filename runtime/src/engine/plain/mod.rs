//! The plain path: safe Rust, f32, channels-last, one pass after another. It is the reference that every
//! faster kernel is tested against, and it can round where bf16 kernels round: weights, what a convolution
//! reads, and every plane that is kept (a convolution's result, a residual block's sum).
//!
//! How a frame travels: bytes → input range → for each convolution a *prepared* plane (with its border) →
//! convolution by rows → instance norm, ReLU, residual in place → … → `activation(x) · scale + offset`,
//! cropped to the frame.

mod conv;
mod norm;
mod prepare;
mod threads;

use impasto_checkpoints::{Architecture, Block, CheckpointError, ConvSpec, NormSpec, StyleModel};

use super::{Tile, output};
use crate::error::RuntimeError;
use crate::progress::Progress;
use conv::PackedConv;
use norm::Norm;
use prepare::Plane;
use threads::Threads;

/// A step of the network with its weights packed.
enum Step {
    Conv { conv: PackedConv, norm: Option<Norm>, relu: bool },
    Residual { convs: [PackedConv; 2], norms: [Norm; 2] },
}

/// A style model packed for the plain path. Immutable; each frame in flight has a [`Scratch`].
pub(super) struct PlainEngine {
    architecture: Architecture,
    steps: Vec<Step>,
    minimum_size: usize,
    bf16: bool,
    tile: Tile,
    threads: Threads,
}

/// Bytes that a frame's planes may take unless told otherwise: about 32 megapixels at width 16. This path keeps them
/// all, in f32; a picture over that would take minutes on it.
const MEMORY: u64 = 8 << 30;

/// The buffers of one frame in flight, reused from frame to frame.
#[derive(Default)]
pub(super) struct Scratch {
    /// The current activations.
    current: Plane,
    /// What a residual block adds to them.
    branch: Plane,
    /// The next convolution's padded input.
    prepared: Plane,
    /// A convolution's result.
    result: Plane,
}

impl PlainEngine {
    /// Packs a model's weights; `bf16`: rounds where bf16 kernels do.
    pub(super) fn new(model: &StyleModel, bf16: bool, threads: usize) -> Result<Self, RuntimeError> {
        let architecture = model.architecture().clone();
        // A bias before an instance norm cancels, so there it is dropped.
        let pack = |spec: &ConvSpec, normed: bool| -> Result<PackedConv, CheckpointError> {
            let weight = model.values(&format!("{}.weight", spec.name))?;
            let bias = model.values(&format!("{}.bias", spec.name))?;
            Ok(PackedConv::new(spec, architecture.padding, weight, if normed { &[] } else { bias }, bf16))
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
                Block::Conv { conv, norm: after, relu } => Step::Conv {
                    conv: pack(&conv, after.is_some())?,
                    norm: after.as_ref().map(norm).transpose()?,
                    relu,
                },
                Block::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => Step::Residual {
                    convs: [pack(&conv1, true)?, pack(&conv2, true)?],
                    norms: [norm(&norm1)?, norm(&norm2)?],
                },
            });
        }
        let minimum_size = architecture.minimum_size();
        let threads = Threads::new(threads);
        Ok(PlainEngine { architecture, steps, minimum_size, bf16, tile: Tile::Auto, threads })
    }

    /// Sets whether there is a limit to memory: this path does not cut frames.
    pub(super) fn set_tile(&mut self, tile: Tile) {
        self.tile = tile;
    }

    /// Refuses a frame that would take too much memory.
    pub(super) fn check_size(&self, width: usize, height: usize) -> Result<(), RuntimeError> {
        let (mut largest, mut prepared) = (0, 0);
        for extent in self.extents(width, height) {
            (largest, prepared) = (extent.result.max(largest), extent.prepared.max(prepared));
        }
        // Buffers change places, so that each of three has the largest plane in the end; and the painting's values.
        let bytes = 4 * (3 * largest + prepared + 3 * width * height) as u64;
        if bytes > MEMORY && self.tile != Tile::Off {
            return Err(RuntimeError::Memory { width, height, bytes, limit: MEMORY });
        }
        Ok(())
    }

    /// The sizes of all convolutions, in order.
    fn extents(&self, width: usize, height: usize) -> impl Iterator<Item = conv::Extent> {
        let convs = self.steps.iter().flat_map(|step| match step {
            Step::Conv { conv, .. } => std::slice::from_ref(conv),
            Step::Residual { convs, .. } => convs.as_slice(),
        });
        convs.scan((height.max(self.minimum_size), width.max(self.minimum_size)), |size, conv| {
            let extent = conv.extent(size.0, size.1);
            *size = (extent.height, extent.width);
            Some(extent)
        })
    }

    /// Paints one frame: `rgb` and `painted` are `[height, width, 3]`; `painted` is neither rounded nor clamped.
    pub(super) fn run(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        scratch: &mut Scratch,
        painted: &mut [f32],
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        self.load(rgb, width, height, scratch);
        let total = self.extents(width, height).map(|extent| extent.work).sum();
        let (mut extents, mut done) = (self.extents(width, height), 0);
        let mut advance = || {
            let before = done;
            done += extents.next().map_or(0, |extent| extent.work);
            progress.step(before, done, total);
            if progress.is_stopped() { Err(RuntimeError::Stopped) } else { Ok(()) }
        };
        for step in &self.steps {
            match step {
                Step::Conv { conv, norm, relu } => {
                    self.convolve(conv, false, scratch);
                    advance()?;
                    std::mem::swap(&mut scratch.current, &mut scratch.result);
                    if let Some(norm) = norm {
                        // The last convolution's colours (no ReLU follows them) are kept in f32.
                        norm.apply(&mut scratch.current, *relu, self.bf16 && *relu, &self.threads);
                    } else if *relu {
                        norm::relu(&mut scratch.current, &self.threads);
                    }
                }
                Step::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => {
                    if self.bf16 {
                        prepare::round(&mut scratch.current, &self.threads);
                    }
                    self.convolve(conv1, false, scratch);
                    advance()?;
                    std::mem::swap(&mut scratch.branch, &mut scratch.result);
                    norm1.apply(&mut scratch.branch, true, self.bf16, &self.threads);
                    self.convolve(conv2, true, scratch);
                    advance()?;
                    norm2.apply(&mut scratch.result, false, self.bf16, &self.threads);
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
        prepare::prepare(source, &conv.axis, self.bf16, &mut scratch.prepared, &self.threads);
        conv.run(&scratch.prepared, source.height, source.width, &mut scratch.result, &self.threads);
    }

    /// `activation(x) · scale + offset`, cropped right and bottom to the frame.
    fn finish(&self, width: usize, height: usize, plane: &Plane, painted: &mut [f32]) {
        debug_assert!(plane.width >= width && plane.height >= height && plane.channels == 3);
        let output = self.architecture.output;
        self.threads.for_each_row(painted, width * 3, |y, row| {
            output::values(&plane.data[y * plane.width * 3..][..width * 3], output, row);
        });
    }
}
