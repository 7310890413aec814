//! Colours and opacity together: weighted for resampling, laid over white for formats without alpha.

use crate::Frame;

/// Colours weighted by their opacity: `colour · alpha / 255`, rounded. `alpha` has a byte a pixel.
pub(super) fn weigh(frame: &Frame, alpha: &[u8]) -> Frame {
    let mut weighted = frame.clone();
    for (pixel, &opacity) in weighted.rgb_mut().as_chunks_mut::<3>().0.iter_mut().zip(alpha) {
        *pixel = pixel.map(|value| ((u32::from(value) * u32::from(opacity) + 127) / 255) as u8);
    }
    weighted
}

/// The inverse of [`weigh`], into `frame`: `weighted · 255 / alpha`, rounded. Where nothing is seen, `frame` keeps its
/// colours.
pub(super) fn unweigh_into(weighted: &Frame, alpha: &[u8], frame: &mut Frame) {
    let (pixels, _) = frame.rgb_mut().as_chunks_mut::<3>();
    for ((pixel, from), &opacity) in pixels.iter_mut().zip(weighted.rgb().as_chunks::<3>().0).zip(alpha) {
        let opacity = u32::from(opacity);
        if opacity > 0 {
            *pixel = from.map(|value| ((u32::from(value) * 255 + opacity / 2) / opacity).min(255) as u8);
        }
    }
}

/// `colour · alpha + 255 · (1 - alpha)`, rounded.
pub(super) fn over_white(frame: &Frame, alpha: &[u8]) -> Vec<u8> {
    let mut rgb = frame.rgb().to_vec();
    for (pixel, &opacity) in rgb.chunks_exact_mut(3).zip(alpha) {
        let opacity = u32::from(opacity);
        for value in pixel {
            *value = ((u32::from(*value) * opacity + 255 * (255 - opacity) + 127) / 255) as u8;
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transparent_is_white_and_opaque_is_itself() {
        let frame = Frame::new(3, 1, vec![10, 20, 30, 10, 20, 30, 0, 100, 255]).unwrap();
        assert_eq!(over_white(&frame, &[255, 0, 128]), [10, 20, 30, 255, 255, 255, 127, 177, 255]);
    }

    #[test]
    fn weights_come_off_again_and_what_is_unseen_stays() {
        let frame = Frame::new(3, 1, vec![10, 20, 30, 0, 100, 255, 7, 8, 9]).unwrap();
        let alpha = [255, 128, 0];
        let weighted = weigh(&frame, &alpha);
        assert_eq!(weighted.rgb(), [10, 20, 30, 0, 50, 128, 0, 0, 0]);
        let mut back = frame.clone();
        unweigh_into(&weighted, &alpha, &mut back);
        assert_eq!(back.rgb(), [10, 20, 30, 0, 100, 255, 7, 8, 9]);
    }
}
