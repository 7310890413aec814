//! A tile of a convolution in bf16 by AVX-512's dot products: two products a lane, summed in f32.

use std::arch::x86_64::*;

use super::Tile;

/// Tiles of up to 14 pixels × 2 registers of 16 outputs; the run counts pairs.
///
/// # Safety
/// AVX-512 F and BF16; `args` as documented, `1 ≤ pixels ≤ 14`, `registers` 1 or 2.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn tile(args: &Tile, pixels: usize, registers: usize) {
    macro_rules! select {
        ($registers:literal: $($pixels:literal)+) => {
            match pixels {
                // SAFETY: the caller's promises.
                $($pixels => unsafe { dot::<$pixels, $registers>(args) },)+
                _ => debug_assert!(false, "a tile of {pixels} pixels"),
            }
        };
    }
    match registers {
        1 => select!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        _ => select!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    }
}

/// # Safety
/// As for [`tile`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn dot<const P: usize, const Q: usize>(args: &Tile) {
    // SAFETY: `rows` holds `kernel_rows` pointers to at least (P − 1) · pixel + 2 · run bf16 each, `weights`
    // kernel_rows · run · Q · 16 pairs, and `out` P pixels of Q · 16 floats. `__m512bh` is 32 bf16 in the same
    // register as `__m512i`.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); Q]; P];
        let mut weights = args.weights;
        for row in 0..args.kernel_rows {
            let mut inputs = (*args.rows.add(row)).cast::<u16>();
            for _ in 0..args.run {
                let mut w = [_mm512_setzero_si512(); Q];
                for q in 0..Q {
                    w[q] = _mm512_loadu_si512(weights.add(q * 64).cast());
                }
                for p in 0..P {
                    let pair = inputs.add(p * args.pixel).cast::<i32>().read_unaligned();
                    let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair));
                    for q in 0..Q {
                        let w = std::mem::transmute::<__m512i, __m512bh>(w[q]);
                        sums[p][q] = _mm512_dpbf16_ps(sums[p][q], x, w);
                    }
                }
                weights = weights.add(Q * 64);
                inputs = inputs.add(2);
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (q, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(args.out.add(p * args.out_pixel + q * 16), *sum);
            }
        }
    }
}
