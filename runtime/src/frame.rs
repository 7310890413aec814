//! The one frame type: 8-bit RGB, for picture, video and camera alike.

use crate::error::RuntimeError;

/// An 8-bit RGB picture in memory, rows from top to bottom, `rgb255` values interleaved.
///
/// # Shapes
/// `rgb` holds `height · width · 3` bytes. Neither side is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Frame {
    /// Wraps RGB bytes.
    ///
    /// # Errors
    /// [`RuntimeError::FrameSize`] when a side is 0 or the bytes are not `width · height · 3`.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, RuntimeError> {
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(rgb.len()) {
            return Err(RuntimeError::FrameSize { width, height, bytes: rgb.len() });
        }
        Ok(Frame { width, height, rgb })
    }

    /// A black frame. A side of 0 becomes 1, so that a frame always has a pixel.
    ///
    /// # Panics
    /// As a `Vec` does, when the size is more than memory can hold.
    pub fn black(width: usize, height: usize) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        Frame { width, height, rgb: vec![0; byte_count(width, height)] }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, row by row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The bytes, to be changed in place.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// The bytes alone.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// Gives the frame another size and keeps its buffer; the pixels are unspecified afterwards.
    pub fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width.max(1), height.max(1));
        self.rgb.resize(byte_count(self.width, self.height), 0);
    }
}

/// What a frame of this size takes. Beyond the machine's memory it is too much to be asked for, and never a small
/// number that is left of it.
fn byte_count(width: usize, height: usize) -> usize {
    width.saturating_mul(height).saturating_mul(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_exactly_its_bytes() {
        assert!(Frame::new(2, 1, vec![0; 6]).is_ok());
        for (width, height, bytes) in [(2, 1, 5), (0, 1, 0), (usize::MAX, 2, 6)] {
            let error = Frame::new(width, height, vec![0; bytes]).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }

    #[test]
    #[should_panic(expected = "capacity overflow")]
    fn a_frame_beyond_all_memory_is_not_an_empty_one() {
        let sides = 1 << (usize::BITS / 2);
        Frame::black(sides, sides);
    }
}
