//! A tile of a convolution or a matrix product in f32 by NEON's multiply-add with one element of a register: four inputs
//! of a pixel are loaded at once and used one after the other, where a broadcast of each would cost an operation more.

use std::arch::aarch64::*;

use super::Tile;

/// Tiles of up to 6 pixels × 2 pairs of registers: 24 sums, 6 times 4 inputs and 2 weights in 32 registers.
///
/// # Safety
/// `args` as documented, `1 ≤ pixels ≤ 6`, `pairs` 1 or 2.
pub(super) unsafe fn tile(args: &Tile, pixels: usize, pairs: usize) {
    macro_rules! select {
        ($registers:literal: $($pixels:literal)+) => {
            match pixels {
                // SAFETY: the caller's promises.
                $($pixels => unsafe { by_elements::<$pixels, $registers>(args) },)+
                _ => debug_assert!(false, "a tile of {pixels} pixels"),
            }
        };
    }
    match pairs {
        1 => select!(2: 1 2 3 4 5 6),
        _ => select!(4: 1 2 3 4 5 6),
    }
}

/// P pixels × Q registers.
///
/// # Safety
/// As for [`tile`].
#[inline(always)]
unsafe fn by_elements<const P: usize, const Q: usize>(args: &Tile) {
    // SAFETY: `rows` holds `kernel_rows` pointers to at least (P − 1) · pixel + run floats each, `weights`
    // kernel_rows · run · Q · 4 floats, and `out` P pixels of Q · 4 floats.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); Q]; P];
        let mut weights = args.weights.cast::<f32>();
        for row in 0..args.kernel_rows {
            let mut inputs = (*args.rows.add(row)).cast::<f32>();
            for _ in 0..args.run / 4 {
                let mut x = [vdupq_n_f32(0.0); P];
                for p in 0..P {
                    x[p] = vld1q_f32(inputs.add(p * args.pixel));
                }
                macro_rules! element {
                    ($($lane:literal)+) => {$(
                        for q in 0..Q {
                            let w = vld1q_f32(weights.add(($lane * Q + q) * 4));
                            for p in 0..P {
                                sums[p][q] = vfmaq_laneq_f32::<$lane>(sums[p][q], w, x[p]);
                            }
                        }
                    )+};
                }
                element!(0 1 2 3);
                weights = weights.add(4 * Q * 4);
                inputs = inputs.add(4);
            }
            for _ in 0..args.run % 4 {
                for p in 0..P {
                    let x = vdupq_n_f32(*inputs.add(p * args.pixel));
                    for q in 0..Q {
                        sums[p][q] = vfmaq_f32(sums[p][q], vld1q_f32(weights.add(q * 4)), x);
                    }
                }
                weights = weights.add(Q * 4);
                inputs = inputs.add(1);
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (q, sum) in sums.iter().enumerate() {
                vst1q_f32(args.out.add(p * args.out_pixel + q * 4), *sum);
            }
        }
    }
}
