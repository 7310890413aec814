//! Copies of boxes out of a tensor by its map (`cp.async.bulk.tensor`), and the maps themselves.
//!
//! The 128 bytes of a map are this card's own: only it reads them.

use crate::access::addresses;
use crate::lanes::lanes;
use crate::machine::{Block, Fault, Op, Warp};
use crate::mbarrier;
use crate::memory::SHARED;
use crate::ptx::Space;

/// A tensor in global memory, and the box that one copy takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub address: u64,
    pub rank: usize,
    /// Bytes of an element.
    pub size: usize,
    /// 0 none, 1 to 3: 32, 64, 128 bytes.
    pub swizzle: usize,
    pub extents: [u64; 5],
    /// Bytes from one to the next along dimension 1 and on; dimension 0 lies without gaps.
    pub strides: [u64; 4],
    pub box_extents: [u32; 5],
    pub element_strides: [u32; 5],
}

impl Map {
    pub fn encode(&self) -> [u64; 16] {
        let mut words = [0; 16];
        words[0] = self.address;
        words[1] = (self.rank | self.size << 8 | self.swizzle << 16) as u64;
        words[2..7].copy_from_slice(&self.extents);
        words[7..11].copy_from_slice(&self.strides);
        for (word, (extent, stride)) in
            words[11..].iter_mut().zip(self.box_extents.iter().zip(&self.element_strides))
        {
            *word = u64::from(*extent) | u64::from(*stride) << 32;
        }
        words
    }

    fn decode(words: [u64; 16]) -> Self {
        let mut map = Self {
            address: words[0],
            rank: (words[1] & 0xFF) as usize,
            size: (words[1] >> 8 & 0xFF) as usize,
            swizzle: (words[1] >> 16 & 0xFF) as usize,
            ..Self::default()
        };
        map.extents.copy_from_slice(&words[2..7]);
        map.strides.copy_from_slice(&words[7..11]);
        map.box_extents = std::array::from_fn(|at| words[11 + at] as u32);
        map.element_strides = std::array::from_fn(|at| (words[11 + at] >> 32) as u32);
        map
    }
}

/// `r[0]`: where to in shared memory (`r[4] & 1`: one row of address), `r[1]`: the map, `r[2]`: the barrier (`r[4] & 2`: one
/// row), `list`: the rows of the coordinates, dimension 0 first.
pub fn copy(w: &mut Warp, block: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let to = addresses(w, op.r[0], op.r[4] & 1 != 0, 0);
    let maps = addresses(w, op.r[1], false, 0);
    let barriers = addresses(w, op.r[2], op.r[4] & 2 != 0, 0);
    for lane in lanes(mask) {
        let from = w.memory.resolve(block, Space::Generic, maps[lane], 64, lane)?;
        // SAFETY: a map has 128 bytes, aligned to 64; `resolve` vouches for the first half, and a map is never cut in two.
        let map = Map::decode(unsafe { from.cast::<[u64; 16]>().read_unaligned() });
        if map.rank != op.list.len() || map.rank == 0 {
            return Err(format!("a map of {} dimensions read with {} coordinates", map.rank, op.list.len()));
        }
        let corner: Vec<i64> = op.list.iter().map(|&row| i64::from(w.rows[row][lane] as i32)).collect();
        let counts: Vec<usize> =
            (0..map.rank).map(|d| map.box_extents[d].div_ceil(map.element_strides[d]) as usize).collect();
        let total: usize = counts.iter().product();
        let base = to[lane] & u64::from(u32::MAX);
        for at in 0..total {
            let mut rest = at;
            let mut source = map.address;
            let mut inside = true;
            for d in 0..map.rank {
                let place = corner[d] + (rest % counts[d]) as i64 * i64::from(map.element_strides[d]);
                rest /= counts[d];
                inside &= place >= 0 && (place as u64) < map.extents[d];
                let stride = if d == 0 { map.size as u64 } else { map.strides[d - 1] };
                source = source.wrapping_add((place as u64).wrapping_mul(stride));
            }
            let mut target = base + (at * map.size) as u64;
            // Sixteen-byte pieces change places within rows of 32, 64 or 128 bytes.
            let bits = (1u64 << map.swizzle) - 1;
            target ^= (target >> 7 & bits) << 4;
            let mut bytes = [0u8; 8];
            if inside {
                let source = w.memory.resolve(block, Space::Global, source, map.size, lane)?;
                // SAFETY: `resolve` vouches for the element's bytes.
                unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), map.size) };
            }
            let target = w.memory.resolve(block, Space::Shared, target, map.size, lane)?;
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, map.size) };
        }
        let barrier = if op.r[4] & 2 != 0 { barriers[lane] | SHARED } else { barriers[lane] };
        mbarrier::complete(w, block, barrier, total * map.size, lane)?;
    }
    Ok(())
}
