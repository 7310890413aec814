//! AArch64's registers: NEON's of 4 floats.

use std::arch::aarch64::*;

use super::Lanes;

/// NEON, which every AArch64 processor has.
#[derive(Clone, Copy)]
pub(in crate::engine::fast::kernels) struct Neon(float32x4_t);

// SAFETY (every block of this file): the trait's conditions: the instructions are there, the pointers valid.

#[allow(clippy::undocumented_unsafe_blocks, reason = "stated once above")]
impl Lanes for Neon {
    const N: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Neon(vdupq_n_f32(0.0)) }
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Neon(vdupq_n_f32(x)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Neon(vld1q_f32(from)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        unsafe {
            let bytes = vcreate_u8(u64::from(from.cast::<u32>().read_unaligned()));
            Neon(vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        unsafe { Neon(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from)))) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) -> Self {
        unsafe {
            let rounded = self.round_bf16();
            vst1_u16(to, vshrn_n_u32::<16>(vreinterpretq_u32_f32(rounded.0)));
            rounded
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Neon(vaddq_f32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Neon(vsubq_f32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Neon(vmulq_f32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self {
        unsafe { Neon(vfmaq_f32(summand.0, self.0, factor.0)) }
    }

    /// Of a number and a NaN the number, as on the other paths.
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Neon(vmaxnmq_f32(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = vreinterpretq_u32_f32(self.0);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            Neon(vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xffff_0000))))
        }
    }
}
