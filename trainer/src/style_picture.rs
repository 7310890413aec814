//! The picture a style is learned from: a painting's file, or a synthetic painting when there is none.

use std::path::Path;

use impasto::picture::{DecodeOptions, Picture, fit_longer_side, read_file};
use impasto::{Frame, RuntimeError};

use crate::error::TrainError;
use crate::learn::checkpoint::sha256_hex;

/// Smallest side of a style picture: below it, deep layers have too few positions for statistics.
pub const SMALLEST_SIDE: usize = 32;

/// Side of the synthetic painting.
const SYNTHETIC_SIDE: usize = 256;

/// A style picture, ready for the loss network.
#[derive(Debug, Clone)]
pub struct StylePicture {
    /// Its pixels at the size asked for.
    pub frame: Frame,
    /// SHA-256 of the file (of the pixels, for the synthetic one).
    pub sha256: String,
}

impl StylePicture {
    /// Reads a painting and brings its longer side to `size` pixels, the aspect kept; 0 leaves it as it is.
    ///
    /// # Errors
    /// [`TrainError::Io`], [`TrainError::Picture`], and [`TrainError::Style`] for a picture with a side below
    /// [`SMALLEST_SIDE`], as it is or at the size asked for.
    pub fn open(path: &Path, size: usize) -> Result<Self, TrainError> {
        let options = DecodeOptions::default();
        let bytes = read_file(path, &options).map_err(|error| match error {
            RuntimeError::Io { source, .. } => TrainError::io("read the style picture", path, source),
            other => other.into(),
        })?;
        let frame = Picture::from_bytes(&bytes, &path.display().to_string(), &options)?.frame;
        let too_small = |width: usize, height: usize, hint: &str| TrainError::Style {
            path: path.to_path_buf(),
            reason: format!(
                "a style picture of {width}×{height} pixels, expected at least {SMALLEST_SIDE} on each side; \
                 hint: {hint}"
            ),
        };
        if frame.width().min(frame.height()) < SMALLEST_SIDE {
            return Err(too_small(frame.width(), frame.height(), "use a larger copy of the painting"));
        }
        let frame = resize(frame, size)?;
        if frame.width().min(frame.height()) < SMALLEST_SIDE {
            return Err(too_small(frame.width(), frame.height(), "raise --style-size"));
        }
        Ok(StylePicture { frame, sha256: sha256_hex(&bytes) })
    }

    /// A synthetic painting: curved strokes of five pigments, so that a first try needs no file.
    ///
    /// # Errors
    /// [`TrainError::Picture`] never in practice: the size is fixed.
    pub fn synthetic(size: usize) -> Result<Self, TrainError> {
        let frame = resize(strokes(SYNTHETIC_SIDE)?, size)?;
        Ok(StylePicture { sha256: sha256_hex(frame.rgb()), frame })
    }
}

fn resize(frame: Frame, size: usize) -> Result<Frame, TrainError> {
    let (width, height) = (frame.width(), frame.height());
    if size == 0 || size == width.max(height) {
        return Ok(frame);
    }
    let (width, height) = fit_longer_side(width, height, size);
    Ok(Picture::from(frame).resized(width, height)?.frame)
}

/// Bands along two interfering waves, each a pigment, with bristle marks along the band.
fn strokes(side: usize) -> Result<Frame, TrainError> {
    const PIGMENTS: [[f32; 3]; 5] = [
        [24.0, 38.0, 92.0],
        [236.0, 190.0, 52.0],
        [196.0, 64.0, 40.0],
        [62.0, 128.0, 148.0],
        [244.0, 232.0, 208.0],
    ];
    let mut frame = Frame::black(side, side);
    for (index, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = ((index % side) as f32 / side as f32, (index / side) as f32 / side as f32);
        let swirl = (9.0 * x + 4.0 * (7.0 * y).sin()).sin() + (8.0 * y + 3.0 * (6.0 * x).cos()).cos();
        let band = 3.5 * swirl;
        let pigment = PIGMENTS[band.floor().rem_euclid(PIGMENTS.len() as f32) as usize % PIGMENTS.len()];
        let across = band - band.floor();
        // Paint is thick in the middle of a stroke and thin at its edge; bristles run along it.
        let relief =
            0.75 + 0.35 * (std::f32::consts::PI * across).sin() + 0.1 * (60.0 * swirl + 25.0 * (x - y)).sin();
        for (value, colour) in pixel.iter_mut().zip(pigment) {
            *value = (colour * relief).clamp(0.0, 255.0) as u8;
        }
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use impasto::picture::EncodeOptions;

    use super::*;

    #[test]
    fn the_aspect_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        Picture::from(Frame::black(200, 100)).save(&path, &EncodeOptions::default()).unwrap();
        let style = StylePicture::open(&path, 80).unwrap();
        assert_eq!((style.frame.width(), style.frame.height()), (80, 40));
        let style = StylePicture::open(&path, 0).unwrap();
        assert_eq!((style.frame.width(), style.frame.height()), (200, 100));
    }

    #[test]
    fn too_small_pictures_are_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        for (width, height, hint) in [(1, 1, "larger copy"), (500, 40, "--style-size")] {
            let path = folder.path().join(format!("{width}.png"));
            Picture::from(Frame::black(width, height)).save(&path, &EncodeOptions::default()).unwrap();
            let error = StylePicture::open(&path, 64).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains("expected at least 32"), "{error}");
        }
        let error = StylePicture::open(&folder.path().join("none.jpg"), 64).unwrap_err().to_string();
        assert!(error.contains("none.jpg"), "{error}");
    }

    #[test]
    fn the_synthetic_painting_is_always_the_same_and_colourful() {
        let first = StylePicture::synthetic(64).unwrap();
        assert_eq!(first.sha256, StylePicture::synthetic(64).unwrap().sha256);
        let rgb = first.frame.rgb();
        for channel in 0..3 {
            let values: Vec<u8> = rgb.iter().skip(channel).step_by(3).copied().collect();
            assert!(values.iter().max().unwrap() - values.iter().min().unwrap() > 100, "channel {channel}");
        }
    }
}
