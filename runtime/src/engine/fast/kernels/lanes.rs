//! Vectors of floats as the kernels see them, one implementation for each instruction set.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

/// A register of [`Lanes::N`] floats.
///
/// # Safety
/// Every function may run only where its instruction set is available, and must be inlined into a function that
/// enables it. Pointers must be valid for `N` elements; they need no alignment.
pub(super) trait Lanes: Copy {
    /// Floats in a register.
    const N: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Widens bytes.
    unsafe fn load_u8(from: *const u8) -> Self;
    /// Widens bf16.
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Rounds to bf16, ties to even, and returns what was stored.
    unsafe fn store_bf16(self, to: *mut u16) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self · factor + summand`, rounded once.
    unsafe fn mul_add(self, factor: Self, summand: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// Rounds to the nearest bf16, ties to even.
    unsafe fn round_bf16(self) -> Self;
}
