//! Memory as a thread sees it: state spaces, generic addresses, and whether an access is allowed.
//!
//! Addresses of global memory are the host's own. Shared and local memory are windows at addresses that no allocation
//! has, so that a generic address says which it means.

use crate::machine::{Block, Fault};
use crate::ptx::Space;

/// Where shared memory lies among generic addresses.
pub const SHARED: u64 = 0x5348_0000_0000_0000;
/// Where a thread's own memory lies among generic addresses.
pub const LOCAL: u64 = 0x4C4F_0000_0000_0000;
/// Where the kernel's parameters lie among generic addresses.
pub const PARAM: u64 = 0x5041_0000_0000_0000;
const WINDOW: u64 = 0xFFFF_0000_0000_0000;

/// Allocated global memory: first and last byte + 1, in order, and bytes in all.
#[derive(Clone, Debug, Default)]
pub struct Ranges(Vec<(u64, u64)>, u64);

impl Ranges {
    pub fn insert(&mut self, start: u64, bytes: u64) {
        let at = self.0.partition_point(|range| range.0 < start);
        self.0.insert(at, (start, start + bytes));
        self.1 += bytes;
    }

    /// The bytes of the allocation that began there, which is none any more.
    pub fn remove(&mut self, start: u64) -> Option<u64> {
        let at = self.0.binary_search_by_key(&start, |range| range.0).ok()?;
        let (start, end) = self.0.remove(at);
        self.1 -= end - start;
        Some(end - start)
    }

    pub fn total(&self) -> u64 {
        self.1
    }

    /// The allocation that holds an address.
    pub fn find(&self, address: u64) -> Option<(u64, u64)> {
        let at = self.0.partition_point(|range| range.0 <= address).checked_sub(1)?;
        Some(self.0[at]).filter(|range| address < range.1)
    }
}

/// A warp's local memory, the allocation that it used last, and the bytes of global memory that its lanes asked for.
pub struct Memory {
    local: Vec<u64>,
    each: usize,
    last: (u64, u64),
    pub global_bytes: u64,
}

impl Memory {
    pub fn new(each: usize) -> Self {
        let each = each.next_multiple_of(16);
        Self { local: vec![u64::MAX; each * 32 / 8], each, last: (0, 0), global_bytes: 0 }
    }

    /// A pointer to `size` bytes, which the thread may read and write.
    pub fn resolve(
        &mut self,
        block: &mut Block<'_>,
        space: Space,
        address: u64,
        size: usize,
        lane: usize,
    ) -> Result<*mut u8, Fault> {
        if !address.is_multiple_of(size as u64) {
            return Err(format!("{size} bytes at {address:#x} are not aligned"));
        }
        let (space, address) = match (space, address & WINDOW) {
            (Space::Generic, SHARED) => (Space::Shared, address & !WINDOW),
            (Space::Generic, LOCAL) => (Space::Local, address & !WINDOW),
            (Space::Generic, PARAM) => (Space::Param, address & !WINDOW),
            (Space::Generic, _) => (Space::Global, address),
            (Space::Shared, _) => (space, address & u64::from(u32::MAX)),
            (Space::Local | Space::Param, _) => (space, address & !WINDOW),
            _ => (space, address),
        };
        let end = address.checked_add(size as u64).ok_or("an address beyond all memory")?;
        match space {
            Space::Shared => {
                let bytes = block.launch.program.shared + block.launch.dynamic_shared;
                if end > bytes as u64 {
                    return Err(format!("{size} bytes at {address:#x} of shared memory, which has {bytes}"));
                }
                // SAFETY: within the vector, as just seen.
                Ok(unsafe { block.shared.as_mut_ptr().cast::<u8>().add(address as usize) })
            }
            Space::Local => {
                if end > self.each as u64 {
                    return Err(format!(
                        "{size} bytes at {address:#x} of local memory, which has {}",
                        self.each
                    ));
                }
                // SAFETY: within the vector: each of the 32 lanes has `each` bytes.
                Ok(unsafe { self.local.as_mut_ptr().cast::<u8>().add(lane * self.each + address as usize) })
            }
            Space::Global | Space::Generic => {
                if address < self.last.0 || end > self.last.1 {
                    self.last = block.launch.ranges.find(address).unwrap_or((0, 0));
                    if end > self.last.1 {
                        return Err(format!("{size} bytes at {address:#x} are in no allocation"));
                    }
                }
                self.global_bytes += size as u64;
                Ok(address as *mut u8)
            }
            Space::Param => {
                let params = &block.launch.params;
                if end > params.len() as u64 {
                    return Err(format!("{size} bytes at {address:#x} of {} of parameters", params.len()));
                }
                // SAFETY: within the vector, as just seen. Kernels only read there: PTX has no store to it.
                Ok(unsafe { params.as_ptr().add(address as usize).cast_mut() })
            }
        }
    }
}
