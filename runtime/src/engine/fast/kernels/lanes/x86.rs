//! Registers of x86-64: AVX2's of 8 floats and AVX-512's of 16.

use std::arch::x86_64::*;

use super::Lanes;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in crate::engine::fast::kernels) struct Avx2(__m256);

/// AVX-512 F, BW, VL; `BF16`: and its conversions to bf16.
#[derive(Clone, Copy)]
pub(in crate::engine::fast::kernels) struct Avx512<const BF16: bool>(__m512);

// SAFETY (every block of this file): the trait's conditions: the instructions are there, the pointers valid.

#[allow(clippy::undocumented_unsafe_blocks, reason = "stated once above")]
impl Lanes for Avx2 {
    const N: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Avx2(_mm256_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Avx2(_mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Avx2(_mm256_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe { Avx2(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            Avx2(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) -> Self {
        unsafe {
            let rounded = self.round_bf16();
            let bits = _mm256_srli_epi32::<16>(_mm256_castps_si256(rounded.0));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(bits, bits));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
            rounded
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Avx2(_mm256_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Avx2(_mm256_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Avx2(_mm256_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        unsafe { Avx2(_mm256_fmadd_ps(self.0, factor.0, summand.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Avx2(_mm256_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            Avx2(_mm256_castsi256_ps(_mm256_and_si256(rounded, mask)))
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "stated once above")]
impl<const BF16: bool> Lanes for Avx512<BF16> {
    const N: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Avx512(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Avx512(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Avx512(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe { Avx512(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) -> Self {
        unsafe {
            if BF16 {
                // `__m256bh` is 16 bf16 in the same register as `__m256i`.
                let half = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
                _mm256_storeu_si256(to.cast(), half);
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                Avx512(_mm512_castsi512_ps(wide))
            } else {
                let rounded = self.round_bf16();
                let bits = _mm512_srli_epi32::<16>(_mm512_castps_si512(rounded.0));
                _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(bits));
                rounded
            }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Avx512(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Avx512(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Avx512(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        unsafe { Avx512(_mm512_fmadd_ps(self.0, factor.0, summand.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Avx512(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            if BF16 {
                let half = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
                return Avx512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))));
            }
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            Avx512(_mm512_castsi512_ps(_mm512_and_si512(rounded, mask)))
        }
    }
}
