//! Where planes of activations are kept: in memory, and what does not fit in a scratch file.
//!
//! All planes lie in one range of addresses, reused as planes die. Rows that end within the memory there is for it
//! are in memory, the others at the same addresses of the file, so a picture a little too large costs little more.
//!
//! A file, and not computing anew what does not fit: fifteen instance norms each need the whole picture, so tiles
//! that keep nothing would compute all layers up to a norm again for each norm, about eight times the arithmetic;
//! a file costs its bytes, once written and once read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::buffer::Buffer;
use super::plan::PlanePlan;
use crate::error::RuntimeError;

/// The environment variable that names the folder of scratch files.
const SCRATCH_VARIABLE: &str = "IMPASTO_SCRATCH";

/// Bytes that [`PlanePlan`]s point into.
#[derive(Default)]
pub(super) struct Planes {
    memory: Buffer,
    /// Bytes from which on rows are in the file.
    limit: usize,
    /// While a frame whose planes do not fit in memory is painted. It has no name and goes when it is closed.
    scratch: Option<File>,
}

impl Planes {
    /// Makes room for so many bytes in memory; 0 gives it back.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.memory.trim(bytes);
        self.limit = bytes;
    }

    /// Puts what is beyond the memory, of so many bytes in all, into a new scratch file.
    pub(super) fn open_scratch(&mut self, bytes: usize) -> Result<(), RuntimeError> {
        let bytes = bytes.saturating_sub(self.limit);
        let folder = scratch_folder();
        let open = || {
            if let Some(free) = free_space(&folder).filter(|&free| free < bytes as u64) {
                let reason = format!("only {:.1} GB are free", free as f64 / 1e9);
                return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
            }
            tempfile::tempfile_in(&folder)
        };
        self.scratch = Some(open().map_err(|reason| scratch_error(bytes, reason))?);
        Ok(())
    }

    /// Removes the scratch file, if there is one.
    pub(super) fn close_scratch(&mut self) {
        self.scratch = None;
    }

    /// A piece of a row to read: where it lies in memory, or in `buffer`, brought there.
    pub(super) fn read(
        &self,
        plane: &PlanePlan,
        (y, x): (usize, usize),
        pixels: usize,
        buffer: &Buffer,
    ) -> io::Result<*const u8> {
        let (at, bytes) = plane.piece(y, x, pixels);
        let Some(file) = self.file(plane, y) else { return Ok(self.in_memory(at, bytes)) };
        assert!(bytes <= buffer.bytes(), "room for a row");
        // SAFETY: the buffer is as long, its bytes are initialized, and it is the calling worker's own.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.start(), bytes) };
        read_at(file, buffer, at as u64)?;
        Ok(buffer.as_ptr())
    }

    /// Where to put a piece of a row: its place in memory, or `buffer`, for [`Planes::write`].
    pub(super) fn target(
        &self,
        plane: &PlanePlan,
        (y, x): (usize, usize),
        pixels: usize,
        buffer: &Buffer,
    ) -> *mut u8 {
        let (at, bytes) = plane.piece(y, x, pixels);
        if self.file(plane, y).is_none() {
            return self.in_memory(at, bytes);
        }
        assert!(bytes <= buffer.bytes(), "room for a row");
        buffer.start()
    }

    /// Stores what was put where [`Planes::target`] said; nothing is left to do for a plane in memory.
    pub(super) fn write(
        &self,
        plane: &PlanePlan,
        (y, x): (usize, usize),
        pixels: usize,
        buffer: &Buffer,
    ) -> io::Result<()> {
        let Some(file) = self.file(plane, y) else { return Ok(()) };
        let (at, bytes) = plane.piece(y, x, pixels);
        assert!(bytes <= buffer.bytes(), "room for a row");
        // SAFETY: the buffer is as long, its bytes are initialized, and it is the calling worker's own.
        write_at(file, unsafe { std::slice::from_raw_parts(buffer.start(), bytes) }, at as u64)
    }

    /// The file, if a row is there.
    fn file(&self, plane: &PlanePlan, y: usize) -> Option<&File> {
        self.scratch.as_ref().filter(|_| plane.offset + (y + 1) * plane.width * plane.pixel > self.limit)
    }

    fn in_memory(&self, at: usize, bytes: usize) -> *mut u8 {
        debug_assert!(at + bytes <= self.memory.bytes());
        // SAFETY: planes lie within what `reserve` was asked for.
        unsafe { self.memory.start().add(at) }
    }
}

/// The error for a scratch file of so many bytes.
pub(super) fn scratch_error(bytes: usize, reason: io::Error) -> RuntimeError {
    RuntimeError::Scratch { folder: scratch_folder(), bytes: bytes as u64, reason }
}

/// The folder that [`SCRATCH_VARIABLE`] names, else the system's for large temporary files: `TMPDIR`, or
/// `/var/tmp`, since `/tmp` lies in memory on many systems, or what the system says.
fn scratch_folder() -> PathBuf {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let large = || Some(PathBuf::from("/var/tmp")).filter(|folder| cfg!(unix) && folder.is_dir());
    named(SCRATCH_VARIABLE).or_else(|| named("TMPDIR")).or_else(large).unwrap_or_else(std::env::temp_dir)
}

/// Bytes that may be written below a folder, where the system says.
fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

#[cfg(unix)]
fn write_at(file: &File, from: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, from, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut to: &mut [u8], mut at: u64) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => (to, at) = (&mut to[read..], at + read as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut from: &[u8], mut at: u64) -> io::Result<()> {
    while !from.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, from, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => (from, at) = (&from[written..], at + written as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_from_memory_and_from_a_file_alike() {
        let plane = PlanePlan { height: 3, width: 5, pixel: 4, offset: 64 };
        let (mut planes, buffer) = (Planes::default(), Buffer::new(20));
        let bytes = plane.offset + plane.bytes();
        // All in memory; the last row in the file, or from the middle of the second; all in the file.
        for limit in [bytes, bytes - 1, bytes - 30, 0] {
            planes.reserve(limit);
            if limit < bytes {
                planes.open_scratch(bytes).unwrap();
            }
            for y in [2, 0, 1] {
                for (x, pixels) in [(0, 2), (2, 3)] {
                    let to = planes.target(&plane, (y, x), pixels, &buffer);
                    for i in 0..4 * pixels {
                        // SAFETY: within the piece.
                        unsafe { *to.add(i) = (20 * y + 4 * x + i) as u8 };
                    }
                    planes.write(&plane, (y, x), pixels, &buffer).unwrap();
                }
            }
            for (y, x, pixels) in [(0, 0, 5), (2, 1, 3), (1, 4, 1)] {
                let from = planes.read(&plane, (y, x), pixels, &buffer).unwrap();
                for i in 0..4 * pixels {
                    // SAFETY: within the piece.
                    assert_eq!(unsafe { *from.add(i) }, (20 * y + 4 * x + i) as u8, "{limit}");
                }
            }
            planes.close_scratch();
            assert!(planes.scratch.is_none());
        }
    }

    #[test]
    fn a_row_that_was_never_written_is_an_error() {
        let plane = PlanePlan { height: 2, width: 4, pixel: 4, offset: 0 };
        let (mut planes, buffer) = (Planes::default(), Buffer::new(16));
        planes.open_scratch(plane.bytes()).unwrap();
        assert!(planes.read(&plane, (1, 0), 4, &buffer).is_err());
    }
}
