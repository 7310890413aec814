//! A tile of a convolution in bf16 on Intel's matrix unit: 32 pixels × 32 outputs in four accumulators.
//!
//! One instruction multiplies 16 pixels × 32 inputs by 32 inputs × 16 outputs. The inputs are loaded straight from
//! the prepared rows, with the distance between pixels as the stride; the weights lie as [`Tile::weights`] says,
//! 16 pairs of inputs a block.
//!
//! Stable Rust knows neither the feature nor the instructions, so both go through `asm!`. The walk over the tiles is
//! written over [`MatrixUnit`], of which there is one in hardware and, for tests on machines without it, one in
//! plain Rust.

use std::arch::asm;

use super::Tile;

/// Largest tile: pixels.
pub(super) const PIXELS: usize = 32;
/// The run of a tile, in pairs, is a multiple of this.
pub(super) const RUN: usize = 16;

/// Rows of a register.
const ROWS: usize = 16;
/// Bytes of a register's row: 16 floats, or 16 pairs of bf16.
const ROW_BYTES: usize = 64;

/// Eight registers of 16 rows of 64 bytes: 0 to 3 accumulate (2 · pixel block + output block), 4 and 5 hold inputs,
/// 6 and 7 weights.
pub(super) trait MatrixUnit {
    /// Begins: pixel blocks of so many rows each. Other registers are full.
    ///
    /// # Safety
    /// The unit is there.
    unsafe fn configure(&mut self, rows: [usize; 2]);
    /// Zeroes an accumulator.
    ///
    /// # Safety
    /// Between `configure` and `release`; here and below.
    unsafe fn zero<const C: i32>(&mut self);
    /// Loads a register's rows, `stride` bytes apart.
    ///
    /// # Safety
    /// 64 bytes are readable at each row.
    unsafe fn load<const T: i32>(&mut self, from: *const u8, stride: usize);
    /// `c[p, o] += Σ_k a[p, 2k] · b[k, 2o] + a[p, 2k + 1] · b[k, 2o + 1]`.
    ///
    /// # Safety
    /// As for `zero`.
    unsafe fn dot<const C: i32, const A: i32, const B: i32>(&mut self);
    /// Stores an accumulator's rows, `stride` bytes apart.
    ///
    /// # Safety
    /// 64 bytes are writable at each row.
    unsafe fn store<const C: i32>(&mut self, to: *mut u8, stride: usize);
    /// Ends: the registers are given up.
    ///
    /// # Safety
    /// After `configure`.
    unsafe fn release(&mut self);
}

/// # Safety
/// The matrix unit, permitted by the system ([`is_available`]); `args` as documented, `1 ≤ pixels ≤ 32`, `registers`
/// 1 or 2.
pub(super) unsafe fn tile(args: &Tile, pixels: usize, registers: usize) {
    // SAFETY: the caller's promises.
    unsafe { tile_on(&mut Hardware, args, pixels, registers) }
}

/// # Safety
/// As for [`tile`], on the given unit.
#[inline(always)]
pub(super) unsafe fn tile_on<U: MatrixUnit>(unit: &mut U, args: &Tile, pixels: usize, registers: usize) {
    // SAFETY: `rows` holds `kernel_rows` pointers to at least (pixels − 1) · pixel + 2 · run bf16 each, `weights`
    // kernel_rows · run · registers · 16 pairs, and `out` `pixels` pixels of registers · 16 floats. Where there is
    // no second block of pixels or outputs, none of its registers is touched.
    unsafe {
        let (second_pixels, second_outputs) = (pixels > ROWS, registers > 1);
        unit.configure([pixels.min(ROWS), pixels.saturating_sub(ROWS)]);
        unit.zero::<0>();
        unit.zero::<1>();
        if second_pixels {
            unit.zero::<2>();
            unit.zero::<3>();
        }
        let stride = args.pixel * 2;
        let weight_stride = registers * ROW_BYTES;
        let mut weights = args.weights;
        for row in 0..args.kernel_rows {
            let mut inputs = *args.rows.add(row);
            for _ in 0..args.run / RUN {
                unit.load::<4>(inputs, stride);
                unit.load::<6>(weights, weight_stride);
                unit.dot::<0, 4, 6>();
                if second_outputs {
                    unit.load::<7>(weights.add(ROW_BYTES), weight_stride);
                    unit.dot::<1, 4, 7>();
                }
                if second_pixels {
                    unit.load::<5>(inputs.add(ROWS * stride), stride);
                    unit.dot::<2, 5, 6>();
                    if second_outputs {
                        unit.dot::<3, 5, 7>();
                    }
                }
                inputs = inputs.add(RUN * 4);
                weights = weights.add(RUN * weight_stride);
            }
        }
        let out_stride = args.out_pixel * 4;
        let out = args.out.cast::<u8>();
        unit.store::<0>(out, out_stride);
        if second_outputs {
            unit.store::<1>(out.add(ROW_BYTES), out_stride);
        }
        if second_pixels {
            let out = out.add(ROWS * out_stride);
            unit.store::<2>(out, out_stride);
            if second_outputs {
                unit.store::<3>(out.add(ROW_BYTES), out_stride);
            }
        }
        unit.release();
    }
}

/// The processor's own.
struct Hardware;

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

// SAFETY (every block): the trait's conditions. The registers belong to no Rust value.
#[allow(clippy::undocumented_unsafe_blocks, reason = "stated once above")]
impl MatrixUnit for Hardware {
    #[inline(always)]
    unsafe fn configure(&mut self, [first, second]: [usize; 2]) {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        // A register of no rows would be an error to use, and is not used.
        let rows = [first, first, second, second, first, second, ROWS, ROWS];
        for (tile, rows) in rows.into_iter().enumerate().filter(|&(_, rows)| rows > 0) {
            configuration.rows[tile] = rows as u8;
            configuration.row_bytes[tile] = ROW_BYTES as u16;
        }
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, preserves_flags, readonly)) }
    }

    #[inline(always)]
    unsafe fn zero<const C: i32>(&mut self) {
        unsafe { asm!("tilezero tmm{c}", c = const C, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load<const T: i32>(&mut self, from: *const u8, stride: usize) {
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}*1]", t = const T, from = in(reg) from, stride = in(reg) stride,
                options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    unsafe fn dot<const C: i32, const A: i32, const B: i32>(&mut self) {
        unsafe {
            asm!("tdpbf16ps tmm{c}, tmm{a}, tmm{b}", c = const C, a = const A, b = const B,
                options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store<const C: i32>(&mut self, to: *mut u8, stride: usize) {
        unsafe {
            asm!("tilestored [{to} + {stride}*1], tmm{c}", c = const C, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn release(&mut self) {
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
    }
}

/// Whether processor and system let this process use the matrix unit in bf16.
///
/// The processor says so in CPUID leaf 7 (EDX bit 22: bf16, bit 24: tiles), the system in XCR0 (bits 17 and 18:
/// configuration and data). Linux keeps the data from a process until it has asked (`arch_prctl`); elsewhere the
/// unit is left alone.
pub(in crate::engine) fn is_available() -> bool {
    static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        if __cpuid(0).eax < 7 || !is_x86_feature_detected!("xsave") {
            return false;
        }
        let has_osxsave = __cpuid(1).ecx & (1 << 27) != 0;
        let has_unit = __cpuid_count(7, 0).edx & (1 << 22 | 1 << 24) == (1 << 22 | 1 << 24);
        // SAFETY: OSXSAVE says that XGETBV may be used.
        has_unit && has_osxsave && unsafe { xcr0() } & (0b11 << 17) == 0b11 << 17 && ask_system()
    })
}

/// # Safety
/// The system has enabled XGETBV.
unsafe fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Asks Linux for the tiles' data (component 18), for this process and all its threads.
#[cfg(target_os = "linux")]
fn ask_system() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: a system call that changes no memory of this process; it clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn ask_system() -> bool {
    false
}

/// The matrix unit in plain Rust, for tests where there is none.
#[cfg(test)]
pub(super) mod emulated {
    use super::{MatrixUnit, ROW_BYTES, ROWS, Tile};

    /// Eight registers; `rows` says how many rows of each are in use.
    #[derive(Default)]
    struct Emulated {
        registers: [[[u32; ROW_BYTES / 4]; ROWS]; 8],
        rows: [usize; 8],
    }

    /// # Safety
    /// As for [`super::tile`], on any processor.
    pub(in super::super) unsafe fn tile(args: &Tile, pixels: usize, registers: usize) {
        // SAFETY: the caller's promises.
        unsafe { super::tile_on(&mut Emulated::default(), args, pixels, registers) }
    }

    fn halves(word: u32) -> [f32; 2] {
        [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
    }

    impl MatrixUnit for Emulated {
        unsafe fn configure(&mut self, [first, second]: [usize; 2]) {
            self.rows = [first, first, second, second, first, second, ROWS, ROWS];
        }
        unsafe fn zero<const C: i32>(&mut self) {
            assert!(self.rows[C as usize] > 0, "a register of no rows is an error to use");
            self.registers[C as usize] = Default::default();
        }
        unsafe fn load<const T: i32>(&mut self, from: *const u8, stride: usize) {
            assert!(self.rows[T as usize] > 0, "a register of no rows is an error to use");
            for y in 0..self.rows[T as usize] {
                // SAFETY: the caller's promise.
                self.registers[T as usize][y] =
                    unsafe { from.add(y * stride).cast::<[u32; 16]>().read_unaligned() };
            }
        }
        unsafe fn dot<const C: i32, const A: i32, const B: i32>(&mut self) {
            assert_eq!(self.rows[C as usize], self.rows[A as usize]);
            for p in 0..self.rows[C as usize] {
                for o in 0..16 {
                    let mut sum = f32::from_bits(self.registers[C as usize][p][o]);
                    for k in 0..ROWS {
                        let (a, b) = (
                            halves(self.registers[A as usize][p][k]),
                            halves(self.registers[B as usize][k][o]),
                        );
                        sum += a[0] * b[0] + a[1] * b[1];
                    }
                    self.registers[C as usize][p][o] = sum.to_bits();
                }
            }
        }
        unsafe fn store<const C: i32>(&mut self, to: *mut u8, stride: usize) {
            assert!(self.rows[C as usize] > 0, "a register of no rows is an error to use");
            for y in 0..self.rows[C as usize] {
                // SAFETY: the caller's promise.
                unsafe {
                    to.add(y * stride).cast::<[u32; 16]>().write_unaligned(self.registers[C as usize][y])
                };
            }
        }
        unsafe fn release(&mut self) {
            self.rows = [0; 8];
        }
    }
}
