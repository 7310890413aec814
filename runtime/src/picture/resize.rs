//! Resampling with Lanczos 3, which keeps strokes sharp.

use fast_image_resize as fir;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;

use crate::{Frame, RuntimeError};

/// Resizes frames and keeps its working memory, for one frame after another.
#[derive(Debug, Default)]
pub struct Resizer {
    inner: fir::Resizer,
}

impl Resizer {
    /// A resizer that has not allocated anything yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples `from` to the size that `into` has (Lanczos 3; when shrinking, the kernel is widened, so
    /// that nothing aliases). The same size is an exact copy.
    ///
    /// # Errors
    /// [`RuntimeError::Picture`] when a side does not fit 32 bits.
    pub fn resize_into(&mut self, from: &Frame, into: &mut Frame) -> Result<(), RuntimeError> {
        let size = (into.width(), into.height());
        self.convolve(from.rgb(), (from.width(), from.height()), into.rgb_mut(), size)
    }

    /// Resamples one plane of bytes, such as an alpha channel.
    ///
    /// # Shapes
    /// `plane` holds `width · height` bytes of `from`, the result as many of `to`.
    pub(super) fn resize_plane(
        &mut self,
        plane: &[u8],
        from: (usize, usize),
        to: (usize, usize),
    ) -> Result<Vec<u8>, RuntimeError> {
        // Three equal channels cost a little memory; a second pixel type would cost half a minute of every
        // cold build.
        let tripled: Vec<u8> = plane.iter().flat_map(|&value| [value; 3]).collect();
        let mut resized = vec![0; to.0 * to.1 * 3];
        self.convolve(&tripled, from, &mut resized, to)?;
        Ok(resized.into_iter().step_by(3).collect())
    }

    /// The only place that names the crate's generic code: each pixel type compiles for half a minute.
    fn convolve(
        &mut self,
        from: &[u8],
        from_size: (usize, usize),
        into: &mut [u8],
        into_size: (usize, usize),
    ) -> Result<(), RuntimeError> {
        let failed = |reason: String| RuntimeError::Picture {
            path: format!("resizing {}×{} to {}×{}", from_size.0, from_size.1, into_size.0, into_size.1),
            reason,
        };
        let side = |side: usize| {
            u32::try_from(side).map_err(|_| failed("expected sides that fit 32 bits".to_string()))
        };
        let from = TypedImageRef::<U8x3>::from_buffer(side(from_size.0)?, side(from_size.1)?, from)
            .map_err(|error| failed(error.to_string()))?;
        let mut into = TypedImage::<U8x3>::from_buffer(side(into_size.0)?, side(into_size.1)?, into)
            .map_err(|error| failed(error.to_string()))?;
        let options =
            fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3));
        self.inner.resize_typed(&from, &mut into, &options).map_err(|error| failed(error.to_string()))
    }
}

/// A frame at another size, with Lanczos 3. A side of 0 becomes 1.
///
/// # Errors
/// [`RuntimeError::Picture`] when a side does not fit 32 bits.
pub fn resize_frame(frame: &Frame, width: usize, height: usize) -> Result<Frame, RuntimeError> {
    check_sides(width, height)?;
    let mut resized = Frame::black(width, height);
    Resizer::new().resize_into(frame, &mut resized)?;
    Ok(resized)
}

/// Checks a size before memory is asked for it.
pub(super) fn check_sides(width: usize, height: usize) -> Result<(), RuntimeError> {
    if u32::try_from(width.max(height)).is_ok() {
        return Ok(());
    }
    Err(RuntimeError::Picture {
        path: "the resized picture".to_string(),
        reason: format!("{width}×{height}; expected sides that fit 32 bits"),
    })
}

/// The largest square in the middle of a frame, brought to `side × side` pixels.
///
/// # Errors
/// As [`resize_frame`].
pub fn middle_square(frame: &Frame, side: usize) -> Result<Frame, RuntimeError> {
    let (width, height) = (frame.width(), frame.height());
    let middle = width.min(height);
    let (left, top) = ((width - middle) / 2, (height - middle) / 2);
    let rows = frame.rgb().chunks_exact(width * 3).skip(top).take(middle);
    let square = rows.flat_map(|row| row[left * 3..(left + middle) * 3].iter().copied()).collect();
    resize_frame(&Frame::new(middle, middle, square)?, side, side)
}

/// The size with the same aspect ratio whose longer side is `longer` (at least 1); it may be larger than the
/// one given. The shorter side is rounded to the nearest pixel and is at least 1.
pub fn fit_longer_side(width: usize, height: usize, longer: usize) -> (usize, usize) {
    let (longest, longer) = (width.max(height).max(1) as u128, longer.max(1) as u128);
    let scale = |side: usize| ((side as u128 * longer + longest / 2) / longest).max(1) as usize;
    (scale(width), scale(height))
}

#[cfg(test)]
mod tests {
    use super::super::Picture;
    use super::*;

    #[test]
    fn the_longer_side_is_met_exactly() {
        assert_eq!(fit_longer_side(768, 512, 640), (640, 427));
        assert_eq!(fit_longer_side(512, 768, 1536), (1024, 1536));
        assert_eq!(fit_longer_side(1000, 1, 10), (10, 1));
        assert_eq!(fit_longer_side(1, 1, 0), (1, 1));
        assert_eq!(fit_longer_side(7, 7, 7), (7, 7));
    }

    #[test]
    fn a_middle_square_is_the_middle() {
        for (width, height, left, top) in [(7, 4, 1, 0), (4, 9, 0, 2)] {
            let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 9]));
            let frame = Frame::new(width, height, pixels.collect()).unwrap();
            let square = middle_square(&frame, 4).unwrap();
            let expected = (0..4).flat_map(|y| (0..4).flat_map(move |x| [left + x, top + y, 9]));
            assert_eq!(square.rgb(), expected.collect::<Vec<u8>>(), "{width}×{height}");
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_and_channels_stay_apart() {
        let ramp = |width: usize| {
            let row = (0..width).flat_map(|x| {
                // The value at the pixel's middle, on a ramp from 20 to 220 across the picture.
                let value = (20.0 + 200.0 * (x as f32 + 0.5) / width as f32).round() as u8;
                [value, 77, 255 - value]
            });
            Frame::new(width, 2, row.clone().chain(row).collect()).unwrap()
        };
        for (from, to) in [(64, 32), (32, 64), (60, 41)] {
            let resized = resize_frame(&ramp(from), to, 2).unwrap();
            let expected = ramp(to);
            let inner = 9..to * 3 - 9;
            for (at, (got, wanted)) in
                resized.rgb()[inner.clone()].iter().zip(&expected.rgb()[inner]).enumerate()
            {
                assert!(got.abs_diff(*wanted) <= 2, "{from} to {to}, byte {at}: {got}, expected {wanted}");
            }
        }
    }

    #[test]
    fn the_same_size_is_a_copy_and_extreme_sizes_work() {
        let frame = Frame::new(5, 3, (0..45).map(|value| value * 5).collect()).unwrap();
        assert_eq!(resize_frame(&frame, 5, 3).unwrap(), frame);
        let flat = Frame::new(9, 7, vec![200; 9 * 7 * 3]).unwrap();
        for (width, height) in [(1, 1), (1, 40), (300, 1), (0, 0)] {
            let resized = resize_frame(&flat, width, height).unwrap();
            assert_eq!((resized.width(), resized.height()), (width.max(1), height.max(1)));
            assert!(resized.rgb().iter().all(|&value| value == 200));
        }
    }

    /// A cut-out: whatever colour its transparent ground has, what is seen is the same, and as light as it was.
    #[test]
    fn what_transparency_hides_does_not_show_at_the_edges() {
        let inside = |at: usize| (20..44).contains(&(at % 64)) && (18..46).contains(&(at / 64));
        let color = [250, 200, 100];
        let cut_out = |hidden: u8| {
            let rgb = (0..64 * 64).flat_map(|at| if inside(at) { color } else { [hidden; 3] }).collect();
            let alpha = (0..64 * 64).map(|at| if inside(at) { 255 } else { 0 }).collect();
            Picture { alpha: Some(alpha), ..Picture::from(Frame::new(64, 64, rgb).unwrap()) }
        };
        for side in [27, 32, 100] {
            let [black, white] = [0, 255].map(|hidden| cut_out(hidden).resized(side, side).unwrap());
            let alpha = black.alpha.clone().unwrap();
            assert!(alpha.contains(&0) && alpha.contains(&255) && Some(&alpha) == white.alpha.as_ref());
            let pixels = [&black, &white].map(|picture| picture.frame.rgb().as_chunks::<3>().0);
            for ((pixel, other), &opacity) in pixels[0].iter().zip(pixels[1]).zip(&alpha) {
                // Of 8 bits, what is hardly seen keeps few.
                let within = (255 / opacity.max(1)).saturating_add(3);
                let light = pixel.iter().zip(color).all(|(got, wanted)| got.saturating_add(within) >= wanted);
                assert!(opacity == 0 || (pixel == other && light), "{side}: {pixel:?} at opacity {opacity}");
            }
        }
    }

    #[test]
    fn a_side_beyond_32_bits_is_an_error_before_memory_is_asked_for() {
        let frame = Frame::black(2, 2);
        for result in [
            resize_frame(&frame, 1 << 40, 1).map(Picture::from),
            Picture::from(frame.clone()).resized(1, usize::MAX),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("expected sides that fit 32 bits"), "{error}");
        }
    }

    #[test]
    fn alpha_is_resized_with_the_picture() {
        let alpha = (0..64).map(|at| if at % 8 < 4 { 0 } else { 255 }).collect();
        let picture = Picture { frame: Frame::black(8, 8), alpha: Some(alpha), icc_profile: Some(vec![1]) };
        let half = picture.resized(4, 4).unwrap();
        let alpha = half.alpha.unwrap();
        assert_eq!(alpha.len(), 16);
        for row in alpha.chunks_exact(4) {
            assert!(row[0] < 10 && row[1] < 40 && row[2] > 215 && row[3] > 245, "{row:?}");
        }
        assert_eq!(half.icc_profile, picture.icc_profile);
    }
}
