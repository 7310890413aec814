//! What is done to a painted picture after the network: strength, kept colours, side by side.
//!
//! The loops work in place, in integers, and take a small part of a frame's time.

use super::Picture;
use crate::{Frame, RuntimeError};

/// Mixes a painting with its original, in place: `painted = strength · painted + (1 - strength) · original`,
/// rounded. Strength 0 is exactly the original, 1 exactly the painting; values outside are brought to the
/// nearer end, and NaN counts as 0.
///
/// # Errors
/// [`RuntimeError::Picture`] when the sizes differ.
pub fn blend(painted: &mut Frame, original: &Frame, strength: f32) -> Result<(), RuntimeError> {
    same_size(painted, original)?;
    // A weight in 1/32768 stays within 0.004 of a level, and the difference times the weight within 32 bits.
    const ONE: i32 = 1 << 15;
    let weight = (strength.clamp(0.0, 1.0) * ONE as f32).round() as i32;
    for (painted, &original) in painted.rgb_mut().iter_mut().zip(original.rgb()) {
        let difference = i32::from(*painted) - i32::from(original);
        *painted = (i32::from(original) + ((difference * weight + ONE / 2) >> 15)) as u8;
    }
    Ok(())
}

/// Gives a painting its original's colours, in place: luminance from the painting, colour differences from
/// the original.
///
/// In full-range BT.601 YCbCr, the result is `(Y painted, Cb original, Cr original)`. As each of R, G, B is Y
/// plus a function of Cb and Cr, that is `original + (Y painted - Y original)` on all three channels, with
/// `Y = 0.299 R + 0.587 G + 0.114 B`: no conversion, and exact where the painting's luminance is the
/// original's. Values outside 0..255 are clamped.
///
/// # Errors
/// [`RuntimeError::Picture`] when the sizes differ.
///
/// # Source
/// Gatys, Bethge, Hertzmann, Shechtman, *Preserving Color in Neural Artistic Style Transfer* (2016),
/// "luminance-only transfer" (there in YIQ, which has the same Y).
pub fn keep_colors(painted: &mut Frame, original: &Frame) -> Result<(), RuntimeError> {
    same_size(painted, original)?;
    // 0.299, 0.587, 0.114 in 1/65536; they add up to 65536.
    const WEIGHTS: [i32; 3] = [19_595, 38_470, 7_471];
    let (painted, _) = painted.rgb_mut().as_chunks_mut::<3>();
    let (original, _) = original.rgb().as_chunks::<3>();
    for (painted, original) in painted.iter_mut().zip(original) {
        let mut luminance = 1 << 15;
        for channel in 0..3 {
            luminance += WEIGHTS[channel] * (i32::from(painted[channel]) - i32::from(original[channel]));
        }
        let luminance = luminance >> 16;
        *painted = original.map(|value| (i32::from(value) + luminance).clamp(0, 255) as u8);
    }
    Ok(())
}

/// Two frames in one, `left` beside `right`. Where one is lower than the other, white fills up below it.
#[must_use]
pub fn side_by_side(left: &Frame, right: &Frame) -> Frame {
    let mut both = Frame::black(1, 1);
    side_by_side_into(left, right, &mut both);
    both
}

/// As [`side_by_side`], into a frame whose size is set and whose buffer is reused.
pub fn side_by_side_into(left: &Frame, right: &Frame, both: &mut Frame) {
    let (width, height) = (left.width() + right.width(), left.height().max(right.height()));
    both.reshape(width, height);
    beside(both.rgb_mut(), width * 3, [left.rgb(), right.rgb()], [left.width() * 3, right.width() * 3]);
}

/// Two pictures in one, as [`side_by_side`], with alpha if one of them has it and `left`'s profile.
#[must_use]
pub fn side_by_side_pictures(left: &Picture, right: &Picture) -> Picture {
    let frame = side_by_side(&left.frame, &right.frame);
    let alpha = (left.alpha.is_some() || right.alpha.is_some()).then(|| {
        let opacity = |picture: &Picture| match &picture.alpha {
            Some(alpha) => alpha.clone(),
            None => vec![255; picture.width() * picture.height()],
        };
        let mut both = vec![0; frame.width() * frame.height()];
        let planes = [&opacity(left)[..], &opacity(right)];
        beside(&mut both, frame.width(), planes, [left.width(), right.width()]);
        both
    });
    Picture { frame, alpha, icc_profile: left.icc_profile.clone() }
}

/// Copies two pictures' rows (`bytes` each) beside each other; rows that a picture lacks are 255.
fn beside(both: &mut [u8], row_bytes: usize, pictures: [&[u8]; 2], bytes: [usize; 2]) {
    for (y, row) in both.chunks_exact_mut(row_bytes).enumerate() {
        let (left, right) = row.split_at_mut(bytes[0]);
        for (to, (picture, bytes)) in [left, right].into_iter().zip(pictures.into_iter().zip(bytes)) {
            match picture.get(y * bytes..(y + 1) * bytes) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(255),
            }
        }
    }
}

fn same_size(painted: &Frame, original: &Frame) -> Result<(), RuntimeError> {
    let size = |frame: &Frame| (frame.width(), frame.height());
    if size(painted) == size(original) {
        return Ok(());
    }
    let ((width, height), (expected_width, expected_height)) = (size(painted), size(original));
    Err(RuntimeError::Picture {
        path: "the painted picture".to_string(),
        reason: format!("{width}×{height}; expected the original's size, {expected_width}×{expected_height}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pairs of values from a coarse set, as two frames.
    fn frames() -> (Frame, Frame) {
        let values = [0u8, 1, 2, 63, 127, 128, 200, 254, 255];
        let pairs: Vec<(u8, u8)> = values.iter().flat_map(|&a| values.iter().map(move |&b| (a, b))).collect();
        let frame = |rgb: Vec<u8>| Frame::new(pairs.len() / 3, 1, rgb).unwrap();
        (frame(pairs.iter().map(|pair| pair.0).collect()), frame(pairs.iter().map(|pair| pair.1).collect()))
    }

    #[test]
    fn blending_is_the_weighted_mean_and_its_ends_are_exact() {
        let (painted, original) = frames();
        for (strength, expected) in
            [(0.0, &original), (1.0, &painted), (-3.0, &original), (7.0, &painted), (f32::NAN, &original)]
        {
            let mut mixed = painted.clone();
            blend(&mut mixed, &original, strength).unwrap();
            assert_eq!(&mixed, expected, "strength {strength}");
        }
        for strength in [0.1f32, 0.5, 0.77, 0.999] {
            let mut mixed = painted.clone();
            blend(&mut mixed, &original, strength).unwrap();
            for ((&got, &p), &o) in mixed.rgb().iter().zip(painted.rgb()).zip(original.rgb()) {
                let wanted = strength * f32::from(p) + (1.0 - strength) * f32::from(o);
                assert!((f32::from(got) - wanted).abs() <= 0.51, "{p}, {o} at {strength}: {got}");
            }
        }
    }

    #[test]
    fn kept_colors_are_luminance_swapped_in_ycbcr() {
        let (painted, original) = frames();
        let mut mixed = painted.clone();
        keep_colors(&mut mixed, &original).unwrap();
        for ((got, p), o) in
            mixed.rgb().chunks_exact(3).zip(painted.rgb().chunks_exact(3)).zip(original.rgb().chunks_exact(3))
        {
            let [r, g, b] = [f32::from(o[0]), f32::from(o[1]), f32::from(o[2])];
            let (cb, cr) = (-0.168736 * r - 0.331264 * g + 0.5 * b, 0.5 * r - 0.418688 * g - 0.081312 * b);
            let y = 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]);
            let wanted = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb];
            for channel in 0..3 {
                let wanted = wanted[channel].clamp(0.0, 255.0);
                assert!((f32::from(got[channel]) - wanted).abs() <= 0.51, "{p:?} {o:?}: {got:?}, {wanted}");
            }
        }
        let mut same = original.clone();
        keep_colors(&mut same, &original).unwrap();
        assert_eq!(same, original);
    }

    #[test]
    fn different_sizes_are_an_error_that_names_both() {
        let original = Frame::black(3, 2);
        let errors = [
            blend(&mut Frame::black(2, 3), &original, 0.5).unwrap_err(),
            keep_colors(&mut Frame::black(2, 3), &original).unwrap_err(),
        ];
        for error in errors {
            let error = error.to_string();
            assert!(error.contains("2×3") && error.contains("3×2"), "{error}");
        }
    }

    #[test]
    fn side_by_side_keeps_both_pictures() {
        let left = Frame::new(1, 2, vec![1, 2, 3, 4, 5, 6]).unwrap();
        let right = Frame::new(2, 1, vec![7, 8, 9, 10, 11, 12]).unwrap();
        let both = side_by_side(&left, &right);
        assert_eq!((both.width(), both.height()), (3, 2));
        assert_eq!(both.rgb(), [1, 2, 3, 7, 8, 9, 10, 11, 12, 4, 5, 6, 255, 255, 255, 255, 255, 255]);
        let right = Picture { alpha: Some(vec![20, 30]), ..Picture::from(right) };
        let both = side_by_side_pictures(&Picture::from(left), &right);
        assert_eq!(both.alpha.unwrap(), [255, 20, 30, 255, 255, 255]);
    }
}
