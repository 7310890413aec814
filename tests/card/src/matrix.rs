//! Products of small matrices by a whole warp: `mma.sync`, `wmma`, and how their parts are loaded (`ldmatrix`).
//!
//! Which lane holds which element: PTX ISA 9.0, chapter 9.7.14 ("Matrix Fragments"). For `wmma` that is left open, and
//! here element e of n lies in slot e, e + n, … of the warp's registers. Sums are taken in f64 and rounded once, so they
//! are closer than a card's.

use half::{bf16, f16};

use crate::access::{addresses, space};
use crate::lanes::{ALL, LANES, Row};
use crate::machine::{Block, Fault, Op, Warp};
use crate::ptx::Space;

/// How an element is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    F32,
}

impl Element {
    pub const ALL: [Self; 4] = [Self::F16, Self::Bf16, Self::Tf32, Self::F32];

    pub fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "tf32" => Self::Tf32,
            "f32" => Self::F32,
            _ => return None,
        })
    }

    pub fn bytes(self) -> usize {
        if matches!(self, Self::F16 | Self::Bf16) { 2 } else { 4 }
    }

    /// Elements in a register.
    pub fn each(self) -> usize {
        4 / self.bytes()
    }

    fn value(self, bits: u32) -> f64 {
        match self {
            Self::F16 => f16::from_bits(bits as u16).to_f64(),
            Self::Bf16 => bf16::from_bits(bits as u16).to_f64(),
            // What a matrix unit does not look at.
            Self::Tf32 => f64::from(f32::from_bits(bits & !0x1FFF)),
            Self::F32 => f64::from(f32::from_bits(bits)),
        }
    }

    /// The numbers of a register of each lane; only the first counts where there is one.
    fn values(self, row: &Row) -> [[f64; 2]; LANES] {
        match self {
            Self::F16 => row.map(|bits| [Self::F16.value(bits & 0xFFFF), Self::F16.value(bits >> 16)]),
            Self::Bf16 => row.map(|bits| [Self::Bf16.value(bits & 0xFFFF), Self::Bf16.value(bits >> 16)]),
            Self::Tf32 => row.map(|bits| [Self::Tf32.value(bits), 0.0]),
            Self::F32 => row.map(|bits| [Self::F32.value(bits), 0.0]),
        }
    }

    fn bits(self, value: f64) -> u32 {
        match self {
            Self::F16 => u32::from(f16::from_f64(value).to_bits()),
            Self::Bf16 => u32::from(bf16::from_f64(value).to_bits()),
            Self::Tf32 | Self::F32 => (value as f32).to_bits(),
        }
    }
}

/// Element `index` of a lane's registers that begin at `list[0]`.
fn element(w: &Warp, rows: &[usize], kind: Element, lane: usize, index: usize) -> u32 {
    let bits = w.rows[rows[index / kind.each()]][lane];
    if kind.each() == 2 && index % 2 == 1 {
        bits >> 16
    } else if kind.each() == 2 {
        bits & 0xFFFF
    } else {
        bits
    }
}

fn set_element(w: &mut Warp, rows: &[usize], kind: Element, lane: usize, index: usize, bits: u32) {
    let register = &mut w.rows[rows[index / kind.each()]][lane];
    *register = match (kind.each(), index % 2) {
        (1, _) => bits,
        (_, 0) => *register & 0xFFFF_0000 | bits,
        _ => *register & 0xFFFF | bits << 16,
    };
}

/// What an `mma` is, packed: the depth k, and the elements of a·b and of c.
pub fn pack(k: usize, factors: Element, sums: Element) -> i64 {
    let at = |e: Element| Element::ALL.iter().position(|&x| x == e).unwrap_or(0) as i64;
    k as i64 | at(factors) << 8 | at(sums) << 12
}

/// `mma.sync.m16n8kK.row.col`: `list` holds the rows of d, a, b, c one after another.
pub fn multiply(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    if mask != ALL {
        return Err("a matrix product needs all lanes".to_owned());
    }
    let k = (op.imm & 0xFF) as usize;
    let kind = Element::ALL[(op.imm >> 8 & 15) as usize];
    let sums = Element::ALL[(op.imm >> 12 & 15) as usize];
    let each = kind.each();
    let count = |elements: usize, kind: Element| elements / LANES / kind.each();
    let (nd, na, nb) = (count(16 * 8, sums), count(16 * k, kind), count(8 * k, kind));
    if op.list.len() != 2 * nd + na + nb {
        return Err("a matrix product with another number of registers".to_owned());
    }
    let (d, rest) = op.list.split_at(nd);
    let (a_rows, rest) = rest.split_at(na);
    let (b_rows, c_rows) = rest.split_at(nb);
    let mut a = [[0f64; 32]; 16];
    let mut b = [[0f64; 8]; 32];
    // Registers alternate between rows g and g + 8 of a, and go on by four registers' width in k.
    for (register, &row) in a_rows.iter().enumerate() {
        for (lane, values) in kind.values(&w.rows[row]).iter().enumerate() {
            let (row, column) = (lane / 4 + register % 2 * 8, lane % 4 * each + register / 2 * 4 * each);
            a[row][column..column + each].copy_from_slice(&values[..each]);
        }
    }
    for (register, &row) in b_rows.iter().enumerate() {
        for (lane, values) in kind.values(&w.rows[row]).iter().enumerate() {
            for (index, &value) in values[..each].iter().enumerate() {
                b[lane % 4 * each + register * 4 * each + index][lane / 4] = value;
            }
        }
    }
    let mut found = [[0f64; 8]; 16];
    for (row, found) in a.iter().zip(&mut found) {
        for (value, b) in row.iter().zip(&b).take(k) {
            for (sum, b) in found.iter_mut().zip(b) {
                *sum += value * b;
            }
        }
    }
    // All of c is read before any of d is written: they may be the same registers.
    let mut results = [[0u32; 4]; LANES];
    for (lane, results) in results.iter_mut().enumerate() {
        for (index, result) in results.iter_mut().enumerate() {
            let (row, column) = (lane / 4 + index / 2 * 8, lane % 4 * 2 + index % 2);
            let c = sums.value(element(w, c_rows, sums, lane, index));
            *result = sums.bits(found[row][column] + c);
        }
    }
    for (lane, results) in results.iter().enumerate() {
        for (index, &bits) in results.iter().enumerate() {
            set_element(w, d, sums, lane, index, bits);
        }
    }
    Ok(())
}

/// `ldmatrix` (`r[0]` 0) and `stmatrix` (1): 8×8 matrices of 16-bit numbers, a row's address from each lane. `r[1]`: the
/// address, `imm` added; `r[2]`: the space; `r[4] & 1`: one row of address, `& 2`: transposed.
pub fn eight_by_eight(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    if mask != ALL {
        return Err("a matrix is loaded and stored by all lanes".to_owned());
    }
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm);
    let space = space(op.r[2]);
    let transposed = op.r[4] & 2 != 0;
    for (matrix, &row) in op.list.iter().enumerate() {
        for line in 0..8 {
            let from = matrix * 8 + line;
            let there = w.memory.resolve(block, space, at[from], 16, from)?.cast::<u16>();
            for column in 0..8 {
                let (lane, half) = if transposed {
                    (column * 4 + line / 2, line % 2)
                } else {
                    (line * 4 + column / 2, column % 2)
                };
                let rows = [row];
                // SAFETY: `resolve` vouches for the row's eight numbers.
                let cell = unsafe { there.add(column) };
                if op.r[0] == 1 {
                    let bits = element(w, &rows, Element::F16, lane, half);
                    // SAFETY: as above.
                    unsafe { cell.write(bits as u16) };
                } else {
                    // SAFETY: as above.
                    let bits = unsafe { cell.read() };
                    set_element(w, &rows, Element::F16, lane, half, u32::from(bits));
                }
            }
        }
    }
    Ok(())
}

/// A fragment of `wmma`: rows, columns, whether memory holds it row by row, and its elements.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    pub rows: usize,
    pub columns: usize,
    pub by_rows: bool,
    pub kind: Element,
}

impl Fragment {
    pub fn pack(self) -> usize {
        let kind = Element::ALL.iter().position(|&x| x == self.kind).unwrap_or(0);
        self.rows | self.columns << 8 | usize::from(self.by_rows) << 16 | kind << 17
    }

    fn unpack(bits: usize) -> Self {
        Self {
            rows: bits & 0xFF,
            columns: bits >> 8 & 0xFF,
            by_rows: bits >> 16 & 1 == 1,
            kind: Element::ALL[bits >> 17 & 3],
        }
    }

    /// Elements, which are numbered by rows whatever memory's order.
    fn size(self) -> usize {
        self.rows * self.columns
    }
}

/// `wmma.load` (`r[0]` 0) and `wmma.store` (1). `r[1]`: the address, `imm` added, `r[2]`: the space, `r[3]`: the row of the
/// stride in elements, `r[4] & 1`: one row of address; `list[0]`: the fragment, the others: its registers.
pub fn fragment(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    if mask != ALL {
        return Err("a matrix is loaded and stored by all lanes".to_owned());
    }
    let fragment = Fragment::unpack(op.list[0]);
    let rows = &op.list[1..];
    let at = addresses(w, op.r[1], op.r[4] & 1 != 0, op.imm)[0];
    let stride = w.rows[op.r[3]][0] as usize;
    let space = space(op.r[2]);
    let bytes = fragment.kind.bytes();
    let each = rows.len() * fragment.kind.each();
    for slot in 0..each * LANES {
        let element_at = slot % fragment.size();
        let (row, column) = (element_at / fragment.columns, element_at % fragment.columns);
        let place = if fragment.by_rows { row * stride + column } else { column * stride + row };
        let there = w.memory.resolve(block, space, at + (place * bytes) as u64, bytes, 0)?;
        let (lane, index) = (slot / each, slot % each);
        if op.r[0] == 1 {
            let bits = element(w, rows, fragment.kind, lane, index);
            // SAFETY: `resolve` vouches for the element's bytes.
            unsafe {
                if bytes == 2 {
                    there.cast::<u16>().write(bits as u16)
                } else {
                    there.cast::<u32>().write(bits)
                }
            }
        } else {
            // SAFETY: as above.
            let bits = unsafe {
                if bytes == 2 { u32::from(there.cast::<u16>().read()) } else { there.cast::<u32>().read() }
            };
            set_element(w, rows, fragment.kind, lane, index, bits);
        }
    }
    Ok(())
}

/// `wmma.mma`: `imm`: m, n, k (a byte each), elements of a·b, of d and of c (four bits each); `list`: how many rows a, b, c
/// and d have, then those of d, a, b, c.
pub fn multiply_fragments(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    if mask != ALL {
        return Err("a matrix product needs all lanes".to_owned());
    }
    let [m, n, k] = [0, 8, 16].map(|shift| (op.imm >> shift & 0xFF) as usize);
    let [kind, d_kind, c_kind] = [24, 28, 32].map(|shift| Element::ALL[(op.imm >> shift & 15) as usize]);
    let (counts, rows) = op.list.split_at(4);
    let (d_rows, rows) = rows.split_at(counts[3]);
    let (a_rows, rows) = rows.split_at(counts[0]);
    let (b_rows, c_rows) = rows.split_at(counts[1]);
    let read = |rows: &[usize], kind: Element, count: usize| -> Vec<f64> {
        let registers: Vec<_> = rows.iter().map(|&row| kind.values(&w.rows[row])).collect();
        let each = rows.len() * kind.each();
        (0..count)
            .map(|slot| {
                let (lane, index) = (slot / each, slot % each);
                registers[index / kind.each()][lane][index % kind.each()]
            })
            .collect()
    };
    let (a, b, mut c) = (read(a_rows, kind, m * k), read(b_rows, kind, k * n), read(c_rows, c_kind, m * n));
    for row in 0..m {
        for depth in 0..k {
            let value = a[row * k + depth];
            for column in 0..n {
                c[row * n + column] += value * b[depth * n + column];
            }
        }
    }
    let each = d_rows.len() * d_kind.each();
    for slot in 0..each * LANES {
        let bits = d_kind.bits(c[slot % (m * n)]);
        set_element(w, d_rows, d_kind, slot / each, slot % each, bits);
    }
    Ok(())
}

/// A `Space` for `wmma` and `ldmatrix`, whose instructions may leave it out.
pub fn space_of(parts: &[&str]) -> Space {
    if parts.iter().any(|part| part.starts_with("shared")) {
        Space::Shared
    } else if parts.contains(&"global") {
        Space::Global
    } else {
        Space::Generic
    }
}
