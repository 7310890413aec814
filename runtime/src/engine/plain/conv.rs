//! The convolution: valid ones over a prepared plane, by rows, in blocks of pixels × output channels.

use impasto_checkpoints::{ConvSpec, Padding};

use super::prepare::Plane;
use super::threads::Threads;
use crate::engine::lower::{Axis, Weights};

/// Output channels a block computes side by side.
const LANES: usize = 8;
/// Pixels a block computes side by side: with `LANES`, as many sums as the smallest register file holds.
const PIXELS: usize = 4;

/// A convolution with its weights in the order in which they are read.
pub(super) struct PackedConv {
    /// The vertical axis, which is the horizontal one too.
    pub(super) axis: Axis,
    input: usize,
    output: usize,
    /// By vertical, then horizontal phase.
    phases: Vec<Vec<Phase>>,
    biases: Vec<[f32; LANES]>,
}

/// Sizes of a convolution's planes.
pub(super) struct Extent {
    /// Rows and columns of the result.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Values of the prepared source and of the result.
    pub(super) prepared: usize,
    pub(super) result: usize,
    /// Multiply-adds.
    pub(super) work: u64,
}

/// The kernel of one phase.
struct Phase {
    /// First prepared row and column, seen from the base.
    offset: (usize, usize),
    /// Kernel rows and columns.
    taps: (usize, usize),
    /// `[output block][kernel row][kernel column × input][LANES]`.
    weights: Vec<[f32; LANES]>,
}

impl PackedConv {
    pub(super) fn new(spec: &ConvSpec, padding: Padding, weight: &[f32], bias: &[f32], bf16: bool) -> Self {
        let axis = Axis::whole(spec, padding);
        let weight = Weights::new(spec, weight, bf16);
        let blocks = spec.output.div_ceil(LANES);
        let phases = axis.phases.iter().map(|vertical| {
            let phase = axis.phases.iter().map(|horizontal| {
                let mut weights = Vec::new();
                for block in 0..blocks {
                    for y in &vertical.taps {
                        for x in &horizontal.taps {
                            for i in 0..spec.input {
                                weights.push(std::array::from_fn(|l| {
                                    weight.at(block * LANES + l, i, y, x) as f32
                                }));
                            }
                        }
                    }
                }
                Phase {
                    offset: (vertical.offset, horizontal.offset),
                    taps: (vertical.taps.len(), horizontal.taps.len()),
                    weights,
                }
            });
            phase.collect()
        });
        let phases = phases.collect();
        let lane = |o: usize| bias.get(o).copied().unwrap_or(0.0);
        let biases = (0..blocks).map(|block| std::array::from_fn(|l| lane(block * LANES + l))).collect();
        PackedConv { axis, input: spec.input, output: spec.output, phases, biases }
    }

    /// What a source of `height × width` makes of it.
    pub(super) fn extent(&self, height: usize, width: usize) -> Extent {
        let up = self.axis.up();
        let outputs = self.axis.bases(height) * up * self.axis.bases(width) * up;
        let taps: usize = self.axis.phases.iter().map(|phase| phase.taps.len()).sum();
        Extent {
            height: self.axis.bases(height) * up,
            width: self.axis.bases(width) * up,
            prepared: self.axis.prepared_length(height) * self.axis.prepared_length(width) * self.input,
            result: outputs * self.output,
            work: (outputs * taps * taps * self.input * self.output / (up * up)) as u64,
        }
    }

    /// `result[y, x, o] = bias[o] + Σ weight[o, i, ky, kx] · prepared[y·stride + ky, x·stride + kx, i]`, for
    /// each phase at its own outputs; the source was `height × width`.
    ///
    /// The products of one output are summed in the same order whatever block it falls into.
    pub(super) fn run(
        &self,
        prepared: &Plane,
        height: usize,
        width: usize,
        result: &mut Plane,
        threads: &Threads,
    ) {
        let (stride, up) = (self.axis.stride(), self.axis.up());
        let (rows, columns) = (self.axis.bases(height), self.axis.bases(width));
        result.reshape(rows * up, columns * up, self.output);
        threads.for_each_row(&mut result.data, columns * up * self.output, |y, row| {
            for (shift, phase) in self.phases[y % up].iter().enumerate() {
                let first = (y / up) * stride + phase.offset.0;
                let line = |ky: usize| {
                    let length = prepared.width * self.input;
                    &prepared.data[(first + ky) * length..][phase.offset.1 * self.input..length]
                };
                self.run_row(phase, line, stride, columns, |x, o, values| {
                    row[((x * up + shift) * self.output + o)..][..values.len()].copy_from_slice(values);
                });
            }
        });
    }

    /// One row of one phase: `write(base column, first output channel, values)`.
    fn run_row<'a>(
        &self,
        phase: &Phase,
        line: impl Fn(usize) -> &'a [f32],
        stride: usize,
        width: usize,
        mut write: impl FnMut(usize, usize, &[f32]),
    ) {
        let run = phase.taps.1 * self.input; // products of one kernel row: contiguous in the prepared plane
        let step = stride * self.input;
        let per_block = phase.taps.0 * run;
        for (block, bias) in self.biases.iter().enumerate() {
            let weights = &phase.weights[block * per_block..][..per_block];
            let first = block * LANES;
            let lanes = LANES.min(self.output - first);
            let mut x = 0;
            while x < width {
                // The last block of a row ends at its edge: pixels that an earlier block computed too get the
                // same value again. Where there are fewer pixels than a block, the last one stands in for
                // those that are not there.
                x = x.min(width.saturating_sub(PIXELS));
                let mut sums = [*bias; PIXELS];
                for (ky, weights) in weights.chunks_exact(run).enumerate() {
                    let line = line(ky);
                    let inputs = std::array::from_fn(|p| &line[(x + p).min(width - 1) * step..][..run]);
                    accumulate(&mut sums, inputs, weights);
                }
                for (p, sum) in sums.iter().enumerate().take(width - x) {
                    write(x + p, first, &sum[..lanes]);
                }
                x += PIXELS;
            }
        }
    }
}

/// `sums[p][l] += Σ_j inputs[p][j] · weights[j][l]`.
#[inline]
fn accumulate(sums: &mut [[f32; LANES]; PIXELS], inputs: [&[f32]; PIXELS], weights: &[[f32; LANES]]) {
    let n = weights.len();
    let [a, b, c, d] = inputs.map(|input| &input[..n]);
    let mut local = *sums;
    for j in 0..n {
        let w = weights[j];
        let values = [a[j], b[j], c[j], d[j]];
        for p in 0..PIXELS {
            for l in 0..LANES {
                local[p][l] += values[p] * w[l];
            }
        }
    }
    *sums = local;
}
