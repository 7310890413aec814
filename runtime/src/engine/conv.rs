//! The convolution: a valid one over a prepared plane, by rows, in blocks of pixels × output channels.

use impasto_checkpoints::{ConvKind, ConvSpec};

use super::prepare::Plane;
use super::round_bf16;
use super::threads::Threads;

/// Output channels a block computes side by side.
const LANES: usize = 8;
/// Pixels a block computes side by side: with `LANES`, as many sums as the smallest register file holds.
const PIXELS: usize = 4;

/// A convolution with its weights in the order in which they are read:
/// `[output block][kernel row][kernel column × input][LANES]`.
pub(super) struct PackedConv {
    pub(super) kind: ConvKind,
    pub(super) kernel: usize,
    input: usize,
    output: usize,
    weights: Vec<[f32; LANES]>,
    biases: Vec<[f32; LANES]>,
}

impl PackedConv {
    pub(super) fn new(spec: &ConvSpec, weight: &[f32], bias: &[f32], bf16: bool) -> Self {
        let (k, input, output) = (spec.kernel, spec.input, spec.output);
        // Position in the file: OIHW, or IOHW with the kernel mirrored for a transposed convolution, which
        // runs as a plain one (see `prepare`).
        let at = |o: usize, i: usize, y: usize, x: usize| match spec.kind {
            ConvKind::Transposed => ((i * output + o) * k + (k - 1 - y)) * k + (k - 1 - x),
            _ => ((o * input + i) * k + y) * k + x,
        };
        let blocks = output.div_ceil(LANES);
        let mut weights = Vec::with_capacity(blocks * k * k * input);
        let mut biases = Vec::with_capacity(blocks);
        for block in 0..blocks {
            let lane = |value: &dyn Fn(usize) -> f32| -> [f32; LANES] {
                std::array::from_fn(|l| {
                    let o = block * LANES + l;
                    if o < output { value(o) } else { 0.0 }
                })
            };
            for y in 0..k {
                for x in 0..k {
                    for i in 0..input {
                        weights.push(lane(&|o| {
                            let value = weight[at(o, i, y, x)];
                            if bf16 { round_bf16(value) } else { value }
                        }));
                    }
                }
            }
            biases.push(lane(&|o| bias[o]));
        }
        PackedConv { kind: spec.kind, kernel: k, input, output, weights, biases }
    }

    /// `result[y, x, o] = bias[o] + Σ weight[o, i, ky, kx] · prepared[y·stride + ky, x·stride + kx, i]`.
    ///
    /// The products of one output are summed in the same order whatever block it falls into.
    pub(super) fn run(
        &self,
        prepared: &Plane,
        stride: usize,
        height: usize,
        width: usize,
        result: &mut Plane,
        threads: &Threads,
    ) {
        result.reshape(height, width, self.output);
        let run = self.kernel * self.input; // products of one kernel row: contiguous in the prepared plane
        let step = stride * self.input;
        let per_block = self.kernel * run;
        threads.for_each_row(&mut result.data, width * self.output, |y, row| {
            let line = |ky: usize| {
                let length = prepared.width * self.input;
                &prepared.data[(y * stride + ky) * length..][..length]
            };
            for (block, bias) in self.biases.iter().enumerate() {
                let weights = &self.weights[block * per_block..][..per_block];
                let first = block * LANES;
                let lanes = LANES.min(self.output - first);
                let mut x = 0;
                while x < width {
                    let mut sums = [*bias; PIXELS];
                    // The last block of a row ends at its edge: pixels that an earlier block computed too get
                    // the same value again.
                    if width >= PIXELS {
                        x = x.min(width - PIXELS);
                        for (ky, weights) in weights.chunks_exact(run).enumerate() {
                            let line = line(ky);
                            let inputs = std::array::from_fn(|p| &line[(x + p) * step..][..run]);
                            accumulate(&mut sums, inputs, weights);
                        }
                    } else {
                        for (ky, weights) in weights.chunks_exact(run).enumerate() {
                            let line = line(ky);
                            // Fewer pixels than a block: the last one stands in for those that are not there.
                            let inputs =
                                std::array::from_fn(|p| &line[(x + p).min(width - 1) * step..][..run]);
                            accumulate(&mut sums, inputs, weights);
                        }
                    }
                    for (p, sum) in sums.iter().enumerate().take(width - x) {
                        row[(x + p) * self.output + first..][..lanes].copy_from_slice(&sum[..lanes]);
                    }
                    x += PIXELS;
                }
            }
        });
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
