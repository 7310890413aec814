//! A tile of a convolution or a matrix product in f32: pixels × outputs, all sums in registers.

use super::Tile;
use super::lanes::Lanes;

/// Tiles of up to 14 pixels × 2 registers: 28 sums, 2 weights and an input in 32 registers.
///
/// # Safety
/// The instruction set of `V`; `args` as documented, `1 ≤ pixels ≤ 14`, `registers` 1 or 2.
#[inline(always)]
pub(super) unsafe fn tile_of_14<V: Lanes>(args: &Tile, pixels: usize, registers: usize) {
    macro_rules! select {
        ($registers:literal: $($pixels:literal)+) => {
            match pixels {
                // SAFETY: the caller's promises.
                $($pixels => unsafe { tile::<V, $pixels, $registers>(args) },)+
                _ => debug_assert!(false, "a tile of {pixels} pixels"),
            }
        };
    }
    match registers {
        1 => select!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => select!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

/// Tiles of up to 6 pixels × 2 registers: 12 sums, 2 weights and an input in 16 registers.
///
/// # Safety
/// As for [`tile_of_14`], with up to 6 pixels.
#[inline(always)]
pub(super) unsafe fn tile_of_6<V: Lanes>(args: &Tile, pixels: usize, registers: usize) {
    macro_rules! select {
        ($registers:literal: $($pixels:literal)+) => {
            match pixels {
                // SAFETY: the caller's promises.
                $($pixels => unsafe { tile::<V, $pixels, $registers>(args) },)+
                _ => debug_assert!(false, "a tile of {pixels} pixels"),
            }
        };
    }
    match registers {
        1 => select!(1: 1 2 3 4 5 6),
        _ => select!(2: 1 2 3 4 5 6),
    }
}

/// # Safety
/// The instruction set of `V`; `args` as documented.
#[inline(always)]
unsafe fn tile<V: Lanes, const P: usize, const Q: usize>(args: &Tile) {
    // SAFETY: `rows` holds `kernel_rows` pointers to at least (P − 1) · pixel + run floats each, `weights`
    // kernel_rows · run · Q · N floats, and `out` P pixels of Q · N floats.
    unsafe {
        let mut sums = [[V::zero(); Q]; P];
        let mut weights = args.weights.cast::<f32>();
        for row in 0..args.kernel_rows {
            let mut inputs = (*args.rows.add(row)).cast::<f32>();
            for _ in 0..args.run {
                let mut w = [V::zero(); Q];
                for q in 0..Q {
                    w[q] = V::load(weights.add(q * V::N));
                }
                for p in 0..P {
                    let x = V::splat(*inputs.add(p * args.pixel));
                    for q in 0..Q {
                        sums[p][q] = x.mul_add(w[q], sums[p][q]);
                    }
                }
                weights = weights.add(Q * V::N);
                inputs = inputs.add(1);
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (q, sum) in sums.iter().enumerate() {
                sum.store(args.out.add(p * args.out_pixel + q * V::N));
            }
        }
    }
}
