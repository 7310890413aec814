//! The inner loops: what they are given, and the table of them for each instruction set.
//!
//! Every loop is written once over [`lanes::Lanes`] (`rows`, `tiles`, `winograd`), and compiled for AVX2, AVX-512 and
//! NEON through the [`kernels`] macro. NEON's tiles (`neon`), the bf16 dot products (`dot_bf16`) and the matrix tiles
//! (`amx`) are their own.

#![allow(clippy::needless_range_loop, reason = "registers are arrays of arrays: indices say which is meant")]

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
mod dot_bf16;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
mod winograd;

pub(super) use winograd::{PATCH, POINTS, REACH};

use crate::engine::Isa;

/// How a value lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// A float.
    F32,
    /// A float whose value was rounded to bf16.
    Rounded,
    /// A bf16.
    Bf16,
}

impl Store {
    pub(super) fn bytes(self) -> usize {
        match self {
            Store::F32 | Store::Rounded => 4,
            Store::Bf16 => 2,
        }
    }
}

/// `to[x, c] = max(from[x, c] · factors[c] + summands[c], floor) + trunk[x, c]`.
pub(super) struct PrepareRow {
    pub(super) pixels: usize,
    /// Channels a pixel: a multiple of 16.
    pub(super) channels: usize,
    /// F32 or Bf16.
    pub(super) from: *const u8,
    pub(super) from_store: Store,
    /// Null: none. Stored as `from`.
    pub(super) trunk: *const u8,
    pub(super) factors: *const f32,
    pub(super) summands: *const f32,
    pub(super) floor: f32,
    pub(super) to: *mut u8,
    pub(super) to_store: Store,
}

/// `to[i] = from[i] · factors[i mod 48] + summands[i mod 48]`: bytes of three colours to the input range.
pub(super) struct LoadRow {
    /// Bytes: 3 a pixel.
    pub(super) bytes: usize,
    pub(super) from: *const u8,
    /// The three colours' factors, sixteen times.
    pub(super) factors: *const f32,
    pub(super) summands: *const f32,
    pub(super) to: *mut u8,
    pub(super) to_store: Store,
}

/// Moments of a row's channels, and the row stored.
pub(super) struct FinishRow {
    pub(super) pixels: usize,
    /// Channels a pixel: a multiple of 16.
    pub(super) channels: usize,
    pub(super) from: *const f32,
    pub(super) to: *mut u8,
    pub(super) to_store: Store,
    /// `channels` means, then `channels` sums of squared deviations.
    pub(super) moments: *mut f32,
}

/// A block of outputs: `out[p, o] = Σ_ky Σ_k rows[ky][p · pixel + k] · weights[ky, k, o]`.
pub(super) struct Tile {
    /// One pointer for each kernel row, at the first input of pixel 0.
    pub(super) rows: *const *const u8,
    pub(super) kernel_rows: usize,
    /// Products of a kernel row: floats, or pairs of bf16.
    pub(super) run: usize,
    /// Inputs from one pixel to the next.
    pub(super) pixel: usize,
    /// `[kernel row][run][outputs of the block]`, for bf16 `[…][outputs][2]`.
    pub(super) weights: *const u8,
    pub(super) out: *mut f32,
    /// Floats from one pixel to the next.
    pub(super) out_pixel: usize,
}

/// A function that computes a tile of so many pixels and one or two times [`Kernels::lanes`] outputs.
pub(super) type TileFn = unsafe fn(&Tile, usize, usize);

/// Winograd's input transform of a line of patches, [`PATCH`] apart.
pub(super) struct InputTransform {
    /// The rows that it reads, at the first patch's first pixel; f32, `channels` a pixel.
    pub(super) rows: [*const f32; REACH],
    /// Channels: a multiple of 16.
    pub(super) channels: usize,
    pub(super) patches: usize,
    /// `[POINTS][patches][channels]`, `point` floats from one point to the next.
    pub(super) to: *mut f32,
    pub(super) point: usize,
}

/// Winograd's output transform to [`PATCH`]² pixels a patch.
pub(super) struct OutputTransform {
    /// `[POINTS][patches][outputs]`.
    pub(super) from: *const f32,
    pub(super) point: usize,
    pub(super) patches: usize,
    /// Outputs: 16 or 32.
    pub(super) outputs: usize,
    /// The rows of results, at the first patch's first pixel.
    pub(super) rows: [*mut f32; PATCH],
    /// Floats from one pixel to the next.
    pub(super) out_pixel: usize,
}

/// One line of Winograd's input transform applied to whole rows, element by element. Past `floats`, up to a register
/// more is read and written.
pub(super) struct TransformRows {
    pub(super) from: [*const f32; REACH],
    pub(super) to: [*mut f32; REACH],
    pub(super) floats: usize,
}

/// Adds up the horizontal pieces of a convolution to three colours, for each of as many vertical ones:
/// `to[x][k] = Σ_j results[x + 3j][3 · pieces · j + k]` for `k < 3 · pieces`.
pub(super) struct SumPieces {
    pub(super) results: *const f32,
    /// Floats from one pixel to the next.
    pub(super) pixel: usize,
    /// Along an axis: 1 to 4.
    pub(super) pieces: usize,
    pub(super) pixels: usize,
    pub(super) to: *mut f32,
    /// Floats from one pixel to the next.
    pub(super) to_pixel: usize,
}

impl SumPieces {
    /// Floats past the last pixel that are read of the results, and written.
    pub(super) const OVERRUN: usize = 16;
}

/// Adds up the horizontal taps of a convolution to three colours:
/// `to[x, o] = bias[o] + Σ_k columns[x + k][3k + o]`.
pub(super) struct SumColumns {
    pub(super) columns: *const f32,
    /// Floats from one pixel to the next.
    pub(super) pixel: usize,
    pub(super) kernel: usize,
    pub(super) pixels: usize,
    pub(super) bias: [f32; 3],
    /// Three floats a pixel, and one more at the end.
    pub(super) to: *mut f32,
}

/// The kernels of an instruction set.
///
/// # Safety
/// Its functions may run only where the instruction set is available; the pointers they are given must be valid
/// for what their argument's documentation says.
pub(super) struct Kernels {
    /// Outputs that a tile takes once or twice: a register of them, on NEON a pair of registers.
    pub(super) lanes: usize,
    /// Largest tile: pixels.
    pub(super) pixels: usize,
    pub(super) tile: TileFn,
    /// The same in bf16, where there are dot products for it.
    pub(super) dot: Option<DotKernel>,
    pub(super) prepare_row: unsafe fn(&PrepareRow),
    pub(super) load_row: unsafe fn(&LoadRow),
    pub(super) finish_row: unsafe fn(&FinishRow),
    pub(super) input_transform: unsafe fn(&InputTransform),
    pub(super) output_transform: unsafe fn(&OutputTransform),
    pub(super) input_rows: unsafe fn(&TransformRows),
    pub(super) sum_pieces: unsafe fn(&SumPieces),
    pub(super) sum_columns: unsafe fn(&SumColumns),
}

/// Tiles in bf16.
#[derive(Clone, Copy)]
pub(super) struct DotKernel {
    /// Largest tile: pixels.
    pub(super) pixels: usize,
    /// The run of a tile, in pairs, is a multiple of this.
    pub(super) run: usize,
    pub(super) tile: TileFn,
    /// Whether it is so much faster than f32 that Winograd's f32 is not worth its savings.
    pub(super) beats_winograd: bool,
}

/// Compiles every loop for an instruction set.
macro_rules! kernels {
    ($(#[$attribute:meta])* $name:ident, $lanes:ty, $features:literal, $outputs:literal, $pixels:literal, $tile:path, $dot:expr) => {
        $(#[$attribute])*
        static $name: Kernels = {
            #[target_feature(enable = $features)]
            unsafe fn prepare_row(args: &PrepareRow) {
                // SAFETY: the caller's promises, and the features are enabled; so below.
                unsafe { rows::prepare::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn load_row(args: &LoadRow) {
                // SAFETY: as above.
                unsafe { rows::load::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn finish_row(args: &FinishRow) {
                // SAFETY: as above.
                unsafe { rows::finish::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn tile(args: &Tile, pixels: usize, registers: usize) {
                // SAFETY: as above.
                unsafe { $tile(args, pixels, registers) }
            }
            #[target_feature(enable = $features)]
            unsafe fn input_transform(args: &InputTransform) {
                // SAFETY: as above.
                unsafe { winograd::input::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn output_transform(args: &OutputTransform) {
                // SAFETY: as above.
                unsafe { winograd::output::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn input_rows(args: &TransformRows) {
                // SAFETY: as above.
                unsafe { winograd::input_rows::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn sum_pieces(args: &SumPieces) {
                // SAFETY: as above.
                unsafe { rows::sum_pieces::<$lanes>(args) }
            }
            #[target_feature(enable = $features)]
            unsafe fn sum_columns(args: &SumColumns) {
                // SAFETY: as above.
                unsafe { rows::sum_columns(args) }
            }
            Kernels {
                lanes: $outputs,
                pixels: $pixels,
                tile,
                dot: $dot,
                prepare_row,
                load_row,
                finish_row,
                input_transform,
                output_transform,
                input_rows,
                sum_pieces,
                sum_columns,
            }
        };
    };
}

kernels!(
    #[cfg(target_arch = "aarch64")]
    NEON,
    lanes::Neon,
    "neon",
    8,
    6,
    neon::tile,
    None
);
kernels!(
    #[cfg(target_arch = "x86_64")]
    AVX2,
    lanes::Avx2,
    "avx2,fma",
    8,
    6,
    tiles::tile_of_6::<lanes::Avx2>,
    None
);
kernels!(
    #[cfg(target_arch = "x86_64")]
    AVX512,
    lanes::Avx512<false>,
    "avx512f,avx512bw,avx512vl,fma",
    16,
    14,
    tiles::tile_of_14::<lanes::Avx512<false>>,
    None
);
kernels!(
    #[cfg(target_arch = "x86_64")]
    AVX512_BF16,
    lanes::Avx512<true>,
    "avx512f,avx512bw,avx512vl,avx512bf16,fma",
    16,
    14,
    tiles::tile_of_14::<lanes::Avx512<true>>,
    Some(DotKernel { pixels: 14, run: 1, tile: dot_bf16::tile, beats_winograd: false })
);
kernels!(
    #[cfg(target_arch = "x86_64")]
    AMX,
    lanes::Avx512<true>,
    "avx512f,avx512bw,avx512vl,avx512bf16,fma",
    16,
    14,
    tiles::tile_of_14::<lanes::Avx512<true>>,
    Some(DotKernel { pixels: amx::PIXELS, run: amx::RUN, tile: amx::tile, beats_winograd: true })
);

// `AMX` with its matrix unit in plain Rust.
kernels!(
    #[cfg(all(test, target_arch = "x86_64"))]
    AMX_EMULATED,
    lanes::Avx512<true>,
    "avx512f,avx512bw,avx512vl,avx512bf16,fma",
    16,
    14,
    tiles::tile_of_14::<lanes::Avx512<true>>,
    Some(DotKernel { pixels: amx::PIXELS, run: amx::RUN, tile: amx::emulated::tile, beats_winograd: true })
);

/// The matrix unit's kernels as far as they run without it; none without AVX512-BF16.
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) fn emulated_amx() -> Option<&'static Kernels> {
    Isa::Avx512Bf16.is_available().then_some(&AMX_EMULATED)
}

/// The kernels of an instruction set; none for the portable path and for another architecture's.
pub(super) fn of(isa: Isa) -> Option<&'static Kernels> {
    match isa {
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(&NEON),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => Some(&AVX2),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(&AVX512),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => Some(&AVX512_BF16),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => Some(&AMX),
        _ => None,
    }
}
