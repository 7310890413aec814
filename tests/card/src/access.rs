//! Loads, stores, atomic operations, copies from global to shared memory.
//!
//! An asynchronous copy is done at once: what a kernel reads before it has waited for it is not found out here.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use half::{bf16, f16};

use crate::lanes::{LANES, lanes};
use crate::machine::{Block, Fault, Op, Warp};
use crate::ptx::Space;

/// What an access needs beside its registers, packed into an `Op`.
///
/// `r[1]`: the address (two rows, or one if `r[4] & 1`), `imm`: what is added to it, `r[2]`: the space, `r[3]`: bytes of
/// an element, `r[4] & 2`: signed, `r[4] & 4`: elements are held in two rows; `list`: their rows.
pub fn space_number(space: Space) -> usize {
    match space {
        Space::Generic => 0,
        Space::Global => 1,
        Space::Shared => 2,
        Space::Local => 3,
        Space::Param => 4,
    }
}

pub fn space(number: usize) -> Space {
    [Space::Generic, Space::Global, Space::Shared, Space::Local, Space::Param][number]
}

/// The address of each lane.
pub fn addresses(w: &Warp, row: usize, narrow: bool, offset: i64) -> [u64; LANES] {
    if narrow {
        w.get::<u32>(row).map(|base| u64::from(base.wrapping_add(offset as u32)))
    } else {
        w.get::<u64>(row).map(|base| base.wrapping_add(offset as u64))
    }
}

/// `size` bytes there as a number.
///
/// # Safety
///
/// `size` is 1, 2, 4 or 8, and so many bytes there may be read, at an address that is a multiple of it.
unsafe fn read(from: *const u8, size: usize) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        match size {
            1 => u64::from(from.read()),
            2 => u64::from(from.cast::<u16>().read()),
            4 => u64::from(from.cast::<u32>().read()),
            _ => from.cast::<u64>().read(),
        }
    }
}

/// Writes the low `size` bytes of a number.
///
/// # Safety
///
/// As for `read`, for writing.
unsafe fn write(to: *mut u8, size: usize, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        match size {
            1 => to.write(value as u8),
            2 => to.cast::<u16>().write(value as u16),
            4 => to.cast::<u32>().write(value as u32),
            _ => to.cast::<u64>().write(value),
        }
    }
}

pub fn load(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    let (space, size) = (space(op.r[2]), op.r[3]);
    let (signed, wide) = (op.r[4] & 2 != 0, op.r[4] & 4 != 0);
    for lane in lanes(mask) {
        let from = w.memory.resolve(block, space, at[lane], size * op.list.len(), lane)?;
        for (index, &row) in op.list.iter().enumerate() {
            // SAFETY: `resolve` vouches for as many bytes as all elements have.
            let mut value = unsafe { read(from.add(index * size), size) };
            if signed {
                let unused = 64 - 8 * size as u32;
                value = ((value as i64) << unused >> unused) as u64;
            }
            w.rows[row][lane] = value as u32;
            if wide {
                w.rows[row + 1][lane] = (value >> 32) as u32;
            }
        }
    }
    Ok(())
}

pub fn store(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    let (space, size) = (space(op.r[2]), op.r[3]);
    for lane in lanes(mask) {
        let to = w.memory.resolve(block, space, at[lane], size * op.list.len(), lane)?;
        for (index, &row) in op.list.iter().enumerate() {
            let mut value = u64::from(w.rows[row][lane]);
            if op.r[4] & 4 != 0 {
                value |= u64::from(w.rows[row + 1][lane]) << 32;
            }
            // SAFETY: as in `load`.
            unsafe { write(to.add(index * size), size, value) };
        }
    }
    Ok(())
}

/// `ld.param`: the same for all lanes.
pub fn load_param(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let size = op.r[3];
    for (index, &row) in op.list.iter().enumerate() {
        let start = op.imm as usize + index * size;
        let bytes = block.launch.params.get(start..start + size).ok_or("beyond the parameters")?;
        let mut value = [0; 8];
        value[..size].copy_from_slice(bytes);
        let mut value = u64::from_le_bytes(value);
        if op.r[4] & 2 != 0 {
            let unused = 64 - 8 * size as u32;
            value = ((value as i64) << unused >> unused) as u64;
        }
        w.put::<u32>(row, [value as u32; LANES], mask);
        if op.r[4] & 4 != 0 {
            w.put::<u32>(row + 1, [(value >> 32) as u32; LANES], mask);
        }
    }
    Ok(())
}

/// What `atom` and `red` do with what is there and what is given.
#[derive(Clone, Copy)]
pub enum Atomic {
    AddWhole,
    AddF16,
    AddBf16,
    AddF16x2,
    AddBf16x2,
    AddF32,
    AddF64,
    MinSigned,
    MinUnsigned,
    MaxSigned,
    MaxUnsigned,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
}

impl Atomic {
    pub const ALL: [Self; 16] = [
        Self::AddWhole,
        Self::AddF16,
        Self::AddBf16,
        Self::AddF16x2,
        Self::AddBf16x2,
        Self::AddF32,
        Self::AddF64,
        Self::MinSigned,
        Self::MinUnsigned,
        Self::MaxSigned,
        Self::MaxUnsigned,
        Self::And,
        Self::Or,
        Self::Xor,
        Self::Exchange,
        Self::CompareAndSwap,
    ];

    pub fn of(name: &str, kind: &str) -> Option<Self> {
        Some(match (name, kind) {
            ("add", "u32" | "s32" | "u64") => Self::AddWhole,
            ("add", "f16") => Self::AddF16,
            ("add", "bf16") => Self::AddBf16,
            ("add", "f16x2") => Self::AddF16x2,
            ("add", "bf16x2") => Self::AddBf16x2,
            ("add", "f32") => Self::AddF32,
            ("add", "f64") => Self::AddF64,
            ("min", "s32" | "s64") => Self::MinSigned,
            ("min", "u32" | "u64") => Self::MinUnsigned,
            ("max", "s32" | "s64") => Self::MaxSigned,
            ("max", "u32" | "u64") => Self::MaxUnsigned,
            ("and", _) => Self::And,
            ("or", _) => Self::Or,
            ("xor", _) => Self::Xor,
            ("exch", _) => Self::Exchange,
            ("cas", _) => Self::CompareAndSwap,
            _ => return None,
        })
    }

    fn apply(self, old: u64, size: usize, given: u64, other: u64) -> u64 {
        let unused = 64 - 8 * size as u32;
        let signed = |value: u64| (value << unused) as i64 >> unused;
        let halves = |value: u64| [value as u16, (value >> 16) as u16];
        let whole = |low: u16, high: u16| u64::from(low) | u64::from(high) << 16;
        let add_f16 = |a, b| (f16::from_bits(a) + f16::from_bits(b)).to_bits();
        let add_bf16 = |a, b| (bf16::from_bits(a) + bf16::from_bits(b)).to_bits();
        let (a, b) = (halves(old), halves(given));
        match self {
            Self::AddWhole => old.wrapping_add(given),
            Self::AddF16 => u64::from(add_f16(a[0], b[0])),
            Self::AddBf16 => u64::from(add_bf16(a[0], b[0])),
            Self::AddF16x2 => whole(add_f16(a[0], b[0]), add_f16(a[1], b[1])),
            Self::AddBf16x2 => whole(add_bf16(a[0], b[0]), add_bf16(a[1], b[1])),
            Self::AddF32 => u64::from((f32::from_bits(old as u32) + f32::from_bits(given as u32)).to_bits()),
            Self::AddF64 => (f64::from_bits(old) + f64::from_bits(given)).to_bits(),
            Self::MinSigned => signed(old).min(signed(given)) as u64,
            Self::MaxSigned => signed(old).max(signed(given)) as u64,
            Self::MinUnsigned => old.min(given),
            Self::MaxUnsigned => old.max(given),
            Self::And => old & given,
            Self::Or => old | given,
            Self::Xor => old ^ given,
            Self::Exchange => given,
            Self::CompareAndSwap => {
                if old == given {
                    other
                } else {
                    old
                }
            }
        }
    }
}

/// `atom`, `red`. As for a load, and: `list[0]` the operation and 256 if the old value is wanted, `list[1]` the row of
/// what is given, `list[2]` of what is swapped in; `r[0]` gets the old value.
pub fn atomic(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    let (space, size, wide) = (space(op.r[2]), op.r[3], op.r[4] & 4 != 0);
    let what = Atomic::ALL[op.list[0] & 255];
    let number = |w: &Warp, row: usize, lane: usize| {
        u64::from(w.rows[row][lane]) | if wide { u64::from(w.rows[row + 1][lane]) << 32 } else { 0 }
    };
    for lane in lanes(mask) {
        let there = w.memory.resolve(block, space, at[lane], size, lane)?;
        let given = number(w, op.list[1], lane);
        let other = op.list.get(2).map_or(0, |&row| number(w, row, lane));
        let low = if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 };
        let (given, other) = (given & low, other & low);
        macro_rules! update {
            ($Atomic:ty, $T:ty) => {{
                // SAFETY: `resolve` vouches for the bytes and their alignment; other threads reach them only so.
                let cell = unsafe { <$Atomic>::from_ptr(there.cast()) };
                cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |old| {
                    Some(what.apply(u64::from(old), size, given, other) as $T)
                })
                .map_or(0, u64::from)
            }};
        }
        let old = match size {
            2 => update!(AtomicU16, u16),
            4 => update!(AtomicU32, u32),
            _ => update!(AtomicU64, u64),
        };
        if op.list[0] & 256 != 0 {
            w.rows[op.r[0]][lane] = old as u32;
            if wide {
                w.rows[op.r[0] + 1][lane] = (old >> 32) as u32;
            }
        }
    }
    Ok(())
}

/// `cp.async`: `r[0]` the target (shared; one row if `r[4] & 1`), `r[1]` the source (two rows), `r[2]`, if not 0, how many
/// bytes of it, the rest being zeros; `r[3]` bytes; `imm` and `list[0]`: what is added to the addresses.
pub fn copy(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let to = addresses(w, op.r[0], op.r[4] & 1 != 0, op.imm);
    let from = addresses(w, op.r[1], false, op.list[0] as i64);
    let counts = (op.r[2] != 0).then(|| w.get::<u32>(op.r[2]));
    let size = op.r[3];
    for lane in lanes(mask) {
        let count = counts.map_or(size, |counts| counts[lane] as usize);
        if count > size {
            return Err(format!("a copy of {count} bytes into {size}"));
        }
        let mut bytes = [0u8; 16];
        if count > 0 {
            let source = w.memory.resolve(block, Space::Global, from[lane], size, lane)?;
            // SAFETY: `resolve` vouches for `size` bytes, and `count` is no more.
            unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), count) };
        }
        let target = w.memory.resolve(block, Space::Shared, to[lane], size, lane)?;
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, size) };
    }
    Ok(())
}
