//! Kernels larger than 3×3 as pieces of 3×3, each computed by Winograd's F(6×6, 3×3).
//!
//! A 9×9 kernel is nine pieces, each over the input moved by (3i, 3j). Decomposed so, 576 products give 36 outputs in
//! place of 2916. Source: Huang et al. 2020, "DWM: A Decomposable Winograd Method for Convolution Acceleration".
//!
//! - Where inputs are few ([`Decomposed`], the first layer) the pieces are inputs of their own: their products are
//!   summed point by point, and only the sum is transformed back. The transform of a moved input is the moved
//!   transform of the rows, so it is taken at every pixel, as sums of whole rows that pieces and patches share.
//! - Where outputs are few ([`Colors`], the last layer) the pieces are outputs of their own: a common 3×3 convolution
//!   to 27 outputs, whose results are moved and added up afterwards.

use super::buffer::Buffer;
use super::direct::{Direct, Row};
use super::kernels::{Kernels, OutputTransform, SumPieces, TransformRows};
use super::program::CHANNELS;
use super::winograd::{PATCH, POINTS, REACH, Winograd, transform};
use crate::engine::lower::{Axis, AxisPhase, Weights};

/// Taps of a piece along an axis.
const PIECE: usize = 3;
/// Most pieces along an axis.
const MAX_PIECES: usize = 4;

/// Most rows that a patch sees.
pub(super) const MAX_REACH: usize = PIECE * (MAX_PIECES - 1) + REACH;

/// Whether a kernel of so many taps is decomposed.
pub(super) fn suits(taps: usize) -> bool {
    taps > PIECE && taps <= MAX_PIECES * PIECE
}

/// An axis of one phase, cut into pieces.
fn pieces(axis: &Axis) -> Vec<AxisPhase> {
    let taps = axis.phases[0].taps.chunks(PIECE);
    taps.map(|taps| AxisPhase { offset: 0, taps: taps.to_vec() }).collect()
}

/// A convolution of stride 1 whose pieces are inputs of their own.
pub(super) struct Decomposed {
    /// By point; the pieces are kernel rows, row by row.
    points: Vec<Direct>,
    /// Along an axis.
    pieces: usize,
    inputs: usize,
    input_rows: unsafe fn(&TransformRows),
    output_transform: unsafe fn(&OutputTransform),
}

/// A line of patches to compute.
pub(super) struct Line<'a> {
    /// [`Decomposed::reach`] prepared rows, f32, at the first patch's first pixel, with room to read
    /// [`Direct::OVERRUN`] bytes past their end.
    pub(super) rows: &'a [*const f32],
    pub(super) patches: usize,
    /// Transformed rows: room for [`Decomposed::input_floats`].
    pub(super) input: &'a Buffer,
    /// Products: room for [`Decomposed::product_floats`].
    pub(super) products: &'a Buffer,
    /// `PATCH` rows of `PATCH · patches` pixels, this many floats apart.
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
}

impl Decomposed {
    /// Packs a convolution whose axis has one phase and stride 1; `inputs` are a prepared pixel's values.
    pub(super) fn new(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        outputs: usize,
        kernels: &Kernels,
    ) -> Self {
        let pieces = pieces(axis);
        // By output, piece and input.
        let mut transformed = Vec::with_capacity(outputs * pieces.len().pow(2) * inputs);
        for o in 0..outputs {
            for (vertical, horizontal) in pieces.iter().flat_map(|y| pieces.iter().map(move |x| (y, x))) {
                let at = |i| transform(vertical, horizontal, |y, x| weights.at(o, i, y, x));
                transformed.extend((0..inputs).map(at));
            }
        }
        let count = pieces.len().pow(2);
        let point = |point| {
            Direct::pack(count, inputs, outputs, kernels, None, |o, piece, i| {
                f64::from(transformed[(o * count + piece) * inputs + i][point])
            })
        };
        Decomposed {
            points: (0..POINTS).map(point).collect(),
            pieces: pieces.len(),
            inputs,
            input_rows: kernels.input_rows,
            output_transform: kernels.output_transform,
        }
    }

    /// Prepared rows that a line of patches sees.
    pub(super) fn reach(&self) -> usize {
        PIECE * (self.pieces - 1) + REACH
    }

    /// Prepared columns that a line of patches sees.
    pub(super) fn columns(&self, patches: usize) -> usize {
        PATCH * (patches - 1) + self.reach()
    }

    fn outputs(&self) -> usize {
        self.points[0].outputs()
    }

    /// Floats of a transformed row: kernels may write past its end.
    fn input_row(&self, patches: usize) -> usize {
        (self.columns(patches) * self.inputs + Direct::OVERRUN / 4).next_multiple_of(16) + 16
    }

    /// Floats of the transformed rows: `REACH` on their way, then `[point][vertical piece]`.
    pub(super) fn input_floats(&self, patches: usize) -> usize {
        (REACH + POINTS * self.pieces) * self.input_row(patches)
    }

    /// Floats from one point's products to the next's, not a power of two.
    fn product_point(&self, patches: usize) -> usize {
        patches * self.outputs() + 16
    }

    /// Floats of the products.
    pub(super) fn product_floats(&self, patches: usize) -> usize {
        POINTS * self.product_point(patches)
    }

    /// Computes `PATCH` rows.
    ///
    /// # Safety
    /// The instruction set that the weights were packed for; the rows hold [`Decomposed::columns`] pixels, the buffers
    /// and `out` have the room they say.
    pub(super) unsafe fn line(&self, line: &Line<'_>) {
        let patches = line.patches;
        debug_assert_eq!(line.rows.len(), self.reach());
        debug_assert!(line.input.bytes() >= 4 * self.input_floats(patches));
        debug_assert!(line.products.bytes() >= 4 * self.product_floats(patches));
        let input_row = self.input_row(patches);
        let half = line.input.start().cast::<f32>();
        let products = line.products.start().cast::<f32>();
        let product_point = self.product_point(patches);
        let columns = self.columns(patches);
        // SAFETY: the caller's promises; the offsets lie within the rooms that were checked above.
        unsafe {
            let input = half.add(REACH * input_row);
            let at = |point: usize, piece: usize| input.add((point * self.pieces + piece) * input_row);
            for vertical in 0..self.pieces {
                (self.input_rows)(&TransformRows {
                    from: std::array::from_fn(|row| line.rows[PIECE * vertical + row]),
                    to: std::array::from_fn(|y| half.add(y * input_row)),
                    floats: columns * self.inputs,
                });
                for y in 0..REACH {
                    (self.input_rows)(&TransformRows {
                        from: std::array::from_fn(|x| half.add(y * input_row + x * self.inputs).cast_const()),
                        to: std::array::from_fn(|x| at(y * REACH + x, vertical)),
                        floats: (columns - (REACH - 1)) * self.inputs,
                    });
                }
            }
            for (point, direct) in self.points.iter().enumerate() {
                let mut rows = [std::ptr::null::<u8>(); MAX_PIECES * MAX_PIECES];
                let rows = &mut rows[..self.pieces * self.pieces];
                for (piece, row) in rows.iter_mut().enumerate() {
                    let (vertical, horizontal) = (piece / self.pieces, piece % self.pieces);
                    *row =
                        at(point, vertical).add(PIECE * horizontal * self.inputs).cast::<u8>().cast_const();
                }
                direct.row(&Row {
                    rows,
                    pixel_bytes: 4 * PATCH * self.inputs,
                    pixel: PATCH * self.inputs,
                    pixels: patches,
                    out: products.add(point * product_point),
                    out_pixel: self.outputs(),
                });
            }
            (self.output_transform)(&OutputTransform {
                from: products,
                point: product_point,
                patches,
                outputs: self.outputs(),
                rows: std::array::from_fn(|row| line.out.add(row * line.out_row)),
                out_pixel: self.outputs(),
            });
        }
    }
}

/// A convolution of stride 1 to three colours whose pieces are outputs of their own.
pub(super) struct Colors {
    /// Output `3 · (pieces · j + i) + c` is colour c of the piece (i, j).
    pub(super) winograd: Winograd,
    /// Along an axis.
    pub(super) pieces: usize,
    /// Outputs of a pixel.
    pub(super) outputs: usize,
    pub(super) bias: [f32; 3],
}

impl Colors {
    /// Packs a convolution whose axis has one phase and stride 1; `inputs`: a multiple of 16.
    pub(super) fn new(
        axis: &Axis,
        weights: &Weights<'_>,
        inputs: usize,
        kernels: &Kernels,
        bias: [f32; 3],
    ) -> Self {
        let pieces = pieces(axis);
        let outputs = (3 * pieces.len().pow(2)).next_multiple_of(CHANNELS);
        let winograd = Winograd::whole(inputs, outputs, kernels, |o, i| {
            let (piece, color) = (o / 3, o % 3);
            match pieces.get(piece / pieces.len()) {
                Some(horizontal) => {
                    let vertical = &pieces[piece % pieces.len()];
                    transform(vertical, horizontal, |y, x| weights.at(color, i, y, x))
                }
                None => [0.0; POINTS],
            }
        });
        Colors { winograd, pieces: pieces.len(), outputs, bias }
    }

    /// Columns, and rows, of the pieces' results beyond an output's own that it sees.
    pub(super) fn beyond(&self) -> usize {
        PIECE * (self.pieces - 1)
    }

    /// Patches of a line that so many outputs see.
    pub(super) fn patches(&self, pixels: usize) -> usize {
        (pixels + self.beyond()).div_ceil(PATCH)
    }

    /// Rows of sums that are kept at a time.
    fn sum_rows(&self) -> usize {
        (PATCH + self.beyond()).next_multiple_of(PATCH)
    }

    /// Floats of a pixel's sums: those of each vertical piece's three colours.
    fn sum_pixel(&self) -> usize {
        (3 * self.pieces).next_multiple_of(4)
    }

    /// Floats of a row of sums; kernels may write past its end.
    fn sum_row(&self, pixels: usize) -> usize {
        pixels * self.sum_pixel() + SumPieces::OVERRUN
    }

    /// Floats of the sums that are kept.
    pub(super) fn sum_floats(&self, pixels: usize) -> usize {
        self.sum_rows() * self.sum_row(pixels)
    }

    /// Adds up a row of results along the horizontal pieces, into the sums' row `y`.
    ///
    /// # Safety
    /// The instruction set; `results` holds `pixels` and [`Colors::beyond`] pixels and [`SumPieces::OVERRUN`] floats
    /// more, `sums` has room for [`Colors::sum_floats`].
    pub(super) unsafe fn add_columns(
        &self,
        kernels: &Kernels,
        results: *const f32,
        y: usize,
        pixels: usize,
        sums: &Buffer,
    ) {
        debug_assert!(sums.bytes() >= 4 * self.sum_floats(pixels));
        // SAFETY: the caller's promises; the row lies within the sums.
        unsafe {
            (kernels.sum_pieces)(&SumPieces {
                results,
                pixel: self.outputs,
                pieces: self.pieces,
                pixels,
                to: sums.start().cast::<f32>().add(y % self.sum_rows() * self.sum_row(pixels)),
                to_pixel: self.sum_pixel(),
            });
        }
    }

    /// Adds up the sums of row `y` and those below it along the vertical pieces: three floats a pixel to `colors`.
    ///
    /// # Safety
    /// The rows `y..=y + beyond` were summed last, for as many pixels; `colors` has room for one float more.
    pub(super) unsafe fn add_rows(&self, y: usize, pixels: usize, sums: &Buffer, colors: *mut f32) {
        let [r, g, b] = self.bias;
        let (pixel, row) = (self.sum_pixel(), self.sum_row(pixels));
        let rows: [*const f32; MAX_PIECES] = std::array::from_fn(|piece| {
            let y = (y + PIECE * piece) % self.sum_rows();
            sums.start().cast::<f32>().wrapping_add(y * row + 3 * piece).cast_const()
        });
        for x in 0..pixels {
            let mut color = [r, g, b, 0.0];
            for row in &rows[..self.pieces] {
                // SAFETY: within the row and its overrun.
                let values = unsafe { row.add(x * pixel).cast::<[f32; 4]>().read_unaligned() };
                for (sum, value) in color.iter_mut().zip(values) {
                    *sum += value;
                }
            }
            // SAFETY: the caller's promise.
            unsafe { colors.add(3 * x).cast::<[f32; 4]>().write_unaligned(color) };
        }
    }
}
