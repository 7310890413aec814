//! Pictures in and out: one 8-bit RGB [`Frame`] with what has to survive the painting beside it.
//!
//! - `decode`: files to [`Picture`]s; orientation, depth, alpha and profile are sorted out here, once.
//! - `heic`: the format of phones, which has a decoder of its own.
//! - `encode`: [`Picture`]s to PNG, JPEG, WebP and TIFF, written whole or not at all.
//! - `resize`: Lanczos-3 resampling.
//! - `alpha`: colours weighted by their opacity, for resampling and for formats without alpha.
//! - `color`: strength, kept colours, side by side.

mod alpha;
mod color;
mod decode;
mod encode;
#[cfg(feature = "heic")]
mod heic;
mod resize;

pub use color::{blend, keep_colors, side_by_side, side_by_side_into, side_by_side_pictures};
#[cfg(feature = "serve")]
pub(crate) use decode::declared_size;
pub use decode::{DEFAULT_MAX_PIXELS, DecodeOptions, READABLE_FORMATS, read_file};
pub use encode::{DEFAULT_QUALITY, EncodeOptions, Format};
pub use resize::{Resizer, fit_longer_side, middle_square, resize_frame};

use crate::{Frame, RuntimeError};

/// A picture: the colours that are painted, and what is carried past the network unpainted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The colours, upright (EXIF orientation applied), not multiplied by alpha.
    pub frame: Frame,
    /// Opacity, one byte a pixel (0 transparent, 255 opaque), row by row like the frame; `None` when the
    /// file has no alpha channel.
    pub alpha: Option<Vec<u8>>,
    /// The file's RGB ICC profile. Profiles for grey or CMYK values are dropped: the frame is RGB.
    pub icc_profile: Option<Vec<u8>>,
}

impl Picture {
    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.frame.width()
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// The picture at another size: colours and alpha resampled with Lanczos 3, the profile kept. Colours count by
    /// their alpha, so that what is hidden under transparent pixels does not show at the edge of what is not.
    ///
    /// A side of 0 becomes 1.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`] when a side does not fit 32 bits, or the alpha channel is not one byte a pixel.
    pub fn resized(&self, width: usize, height: usize) -> Result<Picture, RuntimeError> {
        let mut resizer = Resizer::new();
        resize::check_sides(width, height)?;
        let mut frame = Frame::black(width, height);
        resizer.resize_into(&self.frame, &mut frame)?;
        let (from, to) = ((self.width(), self.height()), (frame.width(), frame.height()));
        let alpha = match &self.alpha {
            Some(alpha) => {
                let resized = resizer.resize_plane(alpha, from, to)?;
                if alpha.iter().any(|&opacity| opacity != 255) {
                    let mut weighted = Frame::black(to.0, to.1);
                    resizer.resize_into(&alpha::weigh(&self.frame, alpha), &mut weighted)?;
                    alpha::unweigh_into(&weighted, &resized, &mut frame);
                }
                Some(resized)
            }
            None => None,
        };
        Ok(Picture { frame, alpha, icc_profile: self.icc_profile.clone() })
    }
}

impl From<Frame> for Picture {
    fn from(frame: Frame) -> Self {
        Picture { frame, alpha: None, icc_profile: None }
    }
}
