//! Direct convolution: weights in the order in which tiles read them, and the walk over a row's tiles.

use super::buffer::Buffer;
use super::kernels::{DotKernel, Kernels, Tile, TileFn};
use crate::engine::lower::{Axis, AxisPhase, Weights};

/// A convolution's packed weights.
pub(super) struct Direct {
    /// By vertical, then horizontal phase of the axis.
    pub(super) phases: Vec<Phase>,
    /// Outputs of a block: one or two registers.
    block: usize,
    /// Registers of a block.
    registers: usize,
    blocks: usize,
    /// Largest tile: pixels.
    pixels: usize,
    tile: TileFn,
}

/// The weights of one phase.
pub(super) struct Phase {
    /// First prepared row and column, seen from the base.
    pub(super) offset: (usize, usize),
    /// Kernel rows.
    pub(super) rows: usize,
    /// Products of a kernel row, as [`Tile::run`] counts them.
    run: usize,
    /// Bytes of a block's weights.
    block_bytes: usize,
    /// `[block][row][run][outputs]`, for bf16 `[…][outputs][2]`.
    weights: Buffer,
}

/// One row of a phase, to be computed by [`Direct::row`].
pub(super) struct Row<'a> {
    /// A pointer for each kernel row, at the first input of the first pixel.
    pub(super) rows: &'a [*const u8],
    /// Bytes from one pixel's inputs to the next's.
    pub(super) pixel_bytes: usize,
    /// Inputs from one pixel to the next.
    pub(super) pixel: usize,
    pub(super) pixels: usize,
    pub(super) out: *mut f32,
    pub(super) out_pixel: usize,
}

impl Direct {
    /// Bytes past a row's last pixel that a tile may read, since runs are rounded up.
    pub(super) const OVERRUN: usize = 128;

    pub(super) fn f32(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
    ) -> Self {
        Self::pack(axis, inputs, outputs, Tiles::f32(kernels), |o, i, y, x| weights.at(o, i, y, x))
    }

    pub(super) fn bf16(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        dot: DotKernel,
    ) -> Self {
        Self::pack(axis, inputs, outputs, Tiles::bf16(dot), |o, i, y, x| weights.at(o, i, y, x))
    }

    /// A convolution to three colours with its horizontal taps as outputs: output `3k + o` is tap k of colour o.
    pub(super) fn columns_f32(axis: &Axis, weights: &Weights<'_>, inputs: usize, kernels: &Kernels) -> Self {
        Self::pack_columns(axis, weights, inputs, Tiles::f32(kernels))
    }

    /// The same in bf16.
    pub(super) fn columns_bf16(axis: &Axis, weights: &Weights<'_>, inputs: usize, dot: DotKernel) -> Self {
        Self::pack_columns(axis, weights, inputs, Tiles::bf16(dot))
    }

    fn pack_columns(axis: &Axis, weights: &Weights<'_>, inputs: usize, tiles: Tiles) -> Self {
        let taps = &axis.phases[0].taps;
        let outputs = column_outputs(taps.len());
        let mut one = axis.clone();
        one.phases[0].taps.truncate(1);
        let rows = &axis.phases[0];
        Self::pack_phases(
            vec![(rows.clone(), one.phases[0].clone())],
            inputs,
            outputs,
            tiles,
            |o, i, y, _| taps.get(o / 3).map_or(0.0, |x| weights.at(o % 3, i, y, x)),
        )
    }

    fn pack(
        axis: &Axis,
        inputs: usize,
        outputs: usize,
        tiles: Tiles,
        at: impl Fn(usize, usize, &[usize], &[usize]) -> f32,
    ) -> Self {
        let pairs = axis.phases.iter().flat_map(|v| axis.phases.iter().map(|h| (v.clone(), h.clone())));
        Self::pack_phases(pairs.collect(), inputs, outputs, tiles, at)
    }

    /// `outputs` is a multiple of 16.
    fn pack_phases(
        phases: Vec<(AxisPhase, AxisPhase)>,
        inputs: usize,
        outputs: usize,
        tiles: Tiles,
        at: impl Fn(usize, usize, &[usize], &[usize]) -> f32,
    ) -> Self {
        let registers = if outputs % (2 * tiles.lanes) == 0 { 2 } else { 1 };
        let block = registers * tiles.lanes;
        let blocks = outputs / block;
        let phases = phases.into_iter().map(|(vertical, horizontal)| {
            let products = horizontal.taps.len() * inputs;
            let run = products.div_ceil(tiles.depth).next_multiple_of(tiles.multiple);
            let block_bytes = vertical.taps.len() * run * block * 4; // a float, or a pair of bf16
            let weights = Buffer::new(blocks * block_bytes);
            let mut to = weights.start();
            for b in 0..blocks {
                for y in &vertical.taps {
                    for k in 0..run {
                        for o in b * block..(b + 1) * block {
                            for part in 0..tiles.depth {
                                let product = k * tiles.depth + part;
                                let value = horizontal
                                    .taps
                                    .get(product / inputs)
                                    .map_or(0.0, |x| at(o, product % inputs, y, x));
                                // SAFETY: the loops write blocks · block_bytes bytes in all, in order.
                                unsafe {
                                    if tiles.depth == 1 {
                                        to.cast::<f32>().write(value);
                                        to = to.add(4);
                                    } else {
                                        to.cast::<u16>().write((value.to_bits() >> 16) as u16);
                                        to = to.add(2);
                                    }
                                }
                            }
                        }
                    }
                }
            }
            Phase {
                offset: (vertical.offset, horizontal.offset),
                rows: vertical.taps.len(),
                run,
                block_bytes,
                weights,
            }
        });
        let phases = phases.collect();
        Direct { phases, block, registers, blocks, pixels: tiles.pixels, tile: tiles.tile }
    }

    /// Outputs of a pixel.
    pub(super) fn outputs(&self) -> usize {
        self.block * self.blocks
    }

    /// Computes one row of a phase.
    ///
    /// # Safety
    /// The instruction set that the weights were packed for; `row` holds `phase.rows` pointers to rows with all
    /// the inputs of `row.pixels` pixels (and [`Direct::OVERRUN`] bytes more), and room for their outputs.
    pub(super) unsafe fn row(&self, phase: &Phase, row: &Row<'_>) {
        debug_assert_eq!(phase.rows, row.rows.len());
        let pieces = row.pixels.div_ceil(self.pixels);
        let mut rows = [std::ptr::null::<u8>(); MAX_KERNEL];
        for block in 0..self.blocks {
            for piece in 0..pieces {
                let first = row.pixels * piece / pieces;
                let end = row.pixels * (piece + 1) / pieces;
                // SAFETY: the caller's promises; `first < row.pixels`.
                unsafe {
                    for (to, from) in rows.iter_mut().zip(row.rows) {
                        *to = from.add(first * row.pixel_bytes);
                    }
                    let tile = Tile {
                        rows: rows.as_ptr(),
                        kernel_rows: phase.rows,
                        run: phase.run,
                        pixel: row.pixel,
                        weights: phase.weights.start().add(block * phase.block_bytes),
                        out: row.out.add(first * row.out_pixel + block * self.block),
                        out_pixel: row.out_pixel,
                    };
                    (self.tile)(&tile, end - first, self.registers);
                }
            }
        }
    }
}

/// Largest kernel: its rows' pointers fit on the stack.
pub(super) const MAX_KERNEL: usize = 16;

/// Outputs of a convolution to three colours with its taps as outputs.
pub(super) fn column_outputs(taps: usize) -> usize {
    (3 * taps).next_multiple_of(super::program::CHANNELS)
}

/// What packing needs to know of the tiles.
struct Tiles {
    /// Outputs in a register.
    lanes: usize,
    /// Products summed in one lane at once.
    depth: usize,
    /// The run is a multiple of this.
    multiple: usize,
    pixels: usize,
    tile: TileFn,
}

impl Tiles {
    fn f32(kernels: &Kernels) -> Self {
        Tiles { lanes: kernels.lanes, depth: 1, multiple: 1, pixels: kernels.pixels, tile: kernels.tile }
    }

    fn bf16(dot: DotKernel) -> Self {
        Tiles { lanes: 16, depth: 2, multiple: dot.run, pixels: dot.pixels, tile: dot.tile }
    }
}
