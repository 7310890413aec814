//! Tall kernels by Winograd's filtering along the vertical axis: F(4, 3) on groups of three kernel rows.
//!
//! The network's first and last kernels are 9×9, where a two-dimensional transform would cost more than it saves.
//! Here three groups of three rows take 18 products for four output rows instead of 36, and both transforms are
//! sums of whole rows: `Y = Aᵀ Σ_g (G w_g) ⊙ (Bᵀ d_g)`, where group g sees the six rows from `y + 3g` on.

use super::buffer::Buffer;
use super::direct::{Direct, Row};
use super::kernels::{Kernels, TransformRows};
use super::winograd::{G24, PATCH, REACH};

/// Rows of a group.
const GROUP: usize = 3;
/// Most groups: for a kernel of 15.
const MAX_GROUPS: usize = 5;

/// Most rows that four output rows see.
pub(super) const MAX_REACH: usize = GROUP * (MAX_GROUPS - 1) + REACH;

/// A convolution's transformed weights.
pub(super) struct Tall {
    /// By point: the groups' rows.
    points: Vec<Direct>,
    groups: usize,
    input_rows: unsafe fn(&TransformRows),
    output_rows: unsafe fn(&TransformRows),
}

/// Four output rows to compute.
pub(super) struct Rows<'a> {
    /// [`Tall::reach`] prepared rows, f32.
    pub(super) rows: &'a [*const f32],
    /// Floats of a prepared row, all columns of the widest strip.
    pub(super) floats: usize,
    /// Floats of a prepared pixel.
    pub(super) pixel: usize,
    /// Pixels to compute.
    pub(super) pixels: usize,
    /// Transformed rows: room for [`Tall::input_floats`].
    pub(super) input: &'a Buffer,
    /// Products: room for [`Tall::product_floats`].
    pub(super) products: &'a Buffer,
    /// Four rows, this many floats apart.
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
}

impl Tall {
    /// Whether it saves anything for so many kernel rows.
    pub(super) fn suits(rows: usize) -> bool {
        rows > GROUP && rows <= MAX_GROUPS * GROUP
    }

    /// `pack(at)` packs one point, where `at(group)` gives the weights of a group's kernel rows: (row, factor).
    pub(super) fn new(
        rows: usize,
        kernels: &Kernels,
        pack: impl Fn(usize, &dyn Fn(usize) -> Vec<(usize, f64)>) -> Direct,
    ) -> Self {
        let groups = rows.div_ceil(GROUP);
        let points = G24.iter().map(|g| {
            pack(groups, &|group| {
                let taps = (0..GROUP).map(|tap| (GROUP * group + tap, g[tap] / 24.0));
                taps.filter(|&(row, _)| row < rows).collect()
            })
        });
        Tall {
            points: points.collect(),
            groups,
            input_rows: kernels.input_rows,
            output_rows: kernels.output_rows,
        }
    }

    /// Prepared rows that four output rows see.
    pub(super) fn reach(&self) -> usize {
        GROUP * (self.groups - 1) + REACH
    }

    /// Outputs of a pixel.
    pub(super) fn outputs(&self) -> usize {
        self.points[0].outputs()
    }

    /// Floats of a transformed row: tiles may read past its end.
    fn input_row(floats: usize) -> usize {
        (floats + Direct::OVERRUN / 4).next_multiple_of(16) + 16
    }

    /// Floats of the transformed rows, for prepared rows of so many.
    pub(super) fn input_floats(&self, floats: usize) -> usize {
        REACH * self.groups * Self::input_row(floats)
    }

    /// Floats of the products of so many pixels.
    pub(super) fn product_floats(&self, pixels: usize) -> usize {
        REACH * pixels * self.outputs()
    }

    /// Computes four rows.
    ///
    /// # Safety
    /// The instruction set that the weights were packed for; the rows hold the inputs of all pixels, the buffers and
    /// `out` have the room they say.
    pub(super) unsafe fn rows(&self, args: &Rows<'_>) {
        debug_assert_eq!(args.rows.len(), self.reach());
        debug_assert!(args.input.bytes() >= 4 * self.input_floats(args.floats));
        debug_assert!(args.products.bytes() >= 4 * self.product_floats(args.pixels));
        let input_row = Self::input_row(args.floats);
        let input = args.input.start().cast::<f32>();
        let products = args.products.start().cast::<f32>();
        let product_row = args.pixels * self.outputs();
        // SAFETY: the caller's promises; the offsets lie within the rooms that were checked above.
        unsafe {
            for group in 0..self.groups {
                (self.input_rows)(&TransformRows {
                    from: std::array::from_fn(|row| args.rows[GROUP * group + row]),
                    to: std::array::from_fn(|point| input.add((point * self.groups + group) * input_row)),
                    floats: args.floats,
                });
            }
            for (point, direct) in self.points.iter().enumerate() {
                let rows: [*const u8; MAX_GROUPS] = std::array::from_fn(|group| {
                    input.wrapping_add((point * self.groups + group) * input_row).cast::<u8>().cast_const()
                });
                direct.row(&Row {
                    rows: &rows[..self.groups],
                    pixel_bytes: 4 * args.pixel,
                    pixel: args.pixel,
                    pixels: args.pixels,
                    out: products.add(point * product_row),
                    out_pixel: self.outputs(),
                });
            }
            (self.output_rows)(&TransformRows {
                from: std::array::from_fn(|point| products.add(point * product_row).cast_const()),
                to: std::array::from_fn(|row| args.out.wrapping_add(row.min(PATCH - 1) * args.out_row)),
                floats: product_row,
            });
        }
    }
}
