//! Memory that several threads write at once, each its own part.

use std::cell::UnsafeCell;

/// A cache line.
#[repr(C, align(64))]
struct Line(UnsafeCell<[u8; 64]>);

/// Zeroed bytes, aligned to a cache line, shared by threads that keep out of each other's parts.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
}

// SAFETY: a buffer by itself only hands out raw pointers; who reads or writes through one answers for it that
// no other thread writes the same bytes between two barriers.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn new(bytes: usize) -> Self {
        let lines = bytes.div_ceil(64);
        Buffer { lines: (0..lines).map(|_| Line(UnsafeCell::new([0; 64]))).collect() }
    }

    /// Makes room for `bytes`; what was in it is gone if it grows.
    pub(super) fn reserve(&mut self, bytes: usize) {
        if self.bytes() < bytes {
            // The old memory goes before the new comes, so that both never count at once.
            self.lines = Vec::new();
            *self = Buffer::new(bytes);
        }
    }

    /// Gives memory back when far more is held than `bytes`.
    pub(super) fn trim(&mut self, bytes: usize) {
        if self.bytes() > 2 * bytes + (1 << 20) {
            *self = Buffer::default();
        }
        self.reserve(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.len() * 64
    }

    /// Its first byte, for reading and writing.
    pub(super) fn start(&self) -> *mut u8 {
        self.lines.as_ptr() as *mut u8
    }
}
