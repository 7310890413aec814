//! What is done to a painting on the device before it comes down: kept colours and strength, pixel by pixel.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// What is done to a painting after the network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PostSteps {
    /// 0: the photo, 1: the painting, linear in RGB between them. Values outside are brought to the nearer end, and
    /// NaN counts as 0.
    pub strength: f32,
    /// Luminance from the painting, colour from the photo.
    pub keep_colors: bool,
}

impl Default for PostSteps {
    /// The painting as it is.
    fn default() -> Self {
        PostSteps { strength: 1.0, keep_colors: false }
    }
}

/// What a strength of 1 is as a weight.
const ONE: f32 = 32_768.0;

/// 0.299, 0.587, 0.114 in 1/65536: the share of red, green and blue in the luminance.
const LUMINANCE: [f32; 3] = [19_595.0, 38_470.0, 7_471.0];

impl PostSteps {
    /// Does them: first the colours, then the strength. All values on the way are whole numbers below 2²⁴, which f32
    /// holds exactly, so the result is the one of the CPU's integers (`impasto::picture::{keep_colors, blend}`, which
    /// say the formulas) to the last byte.
    ///
    /// # Shapes
    /// - painted, photo: `[batch, 3, height, width]`, f32
    /// - output: the same, rounded to whole numbers in 0..255 when there is anything to do
    ///
    /// # Units
    /// RGB 0..255; `painted` is the network's own, `photo` whole numbers.
    pub(crate) fn apply<B: Backend>(self, painted: Tensor<B, 4>, photo: Tensor<B, 4>) -> Tensor<B, 4> {
        let weight = if self.strength.is_nan() { 0.0 } else { (self.strength.clamp(0.0, 1.0) * ONE).round() };
        if weight == ONE && !self.keep_colors {
            return painted;
        }
        let mut painted = (painted + 0.5).clamp(0.0, 255.0).floor();
        if self.keep_colors {
            let difference = painted - photo.clone();
            let of = |channel: usize| difference.clone().narrow(1, channel, 1) * LUMINANCE[channel];
            let luminance = ((of(0) + of(1) + of(2) + 32_768.0) / 65_536.0).floor();
            painted = (photo.clone() + luminance).clamp(0.0, 255.0);
        }
        if weight < ONE {
            painted = photo.clone() + (((painted - photo) * weight + ONE / 2.0) / ONE).floor();
        }
        painted
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::backend::Cpu;

    /// `apply` on pixels of three values.
    fn apply(post: PostSteps, painted: &[[f32; 3]], photo: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let tensor = |pixels: &[[f32; 3]]| {
            let data = TensorData::new(pixels.concat(), [1, 1, pixels.len(), 3]);
            Tensor::<Cpu, 4>::from_data(data, &Default::default()).permute([0, 3, 1, 2])
        };
        let done = post.apply(tensor(painted), tensor(photo)).permute([0, 2, 3, 1]).into_data();
        done.to_vec::<f32>().expect("f32").as_chunks::<3>().0.to_vec()
    }

    /// Paintings and photos of every pair of a coarse set of values, the channels out of step.
    fn pixels() -> (Vec<[f32; 3]>, Vec<[f32; 3]>) {
        let values = [0.0, 1.0, 2.0, 63.0, 127.0, 128.0, 200.0, 254.0, 255.0];
        let at = |index: usize| values[index % 9];
        let pairs = (0..81).map(|pair| (pair / 9, pair % 9));
        pairs.map(|(a, b)| ([at(a), at(2 * a + b), at(b + 5)], [at(b), at(a + 3 * b), at(a)])).unzip()
    }

    #[test]
    fn strength_is_the_weighted_mean_and_its_ends_are_exact() {
        let (painted, photo) = pixels();
        for (strength, expected) in
            [(1.0, &painted), (7.0, &painted), (0.0, &photo), (-3.0, &photo), (f32::NAN, &photo)]
        {
            let post = PostSteps { strength, keep_colors: false };
            assert_eq!(&apply(post, &painted, &photo), expected, "{strength}");
        }
        for strength in [0.1_f32, 0.5, 0.77, 0.999] {
            let mixed = apply(PostSteps { strength, keep_colors: false }, &painted, &photo);
            for ((mixed, painted), photo) in mixed.iter().zip(&painted).zip(&photo) {
                for channel in 0..3 {
                    let wanted = strength * painted[channel] + (1.0 - strength) * photo[channel];
                    assert_eq!(mixed[channel].fract(), 0.0);
                    assert!((mixed[channel] - wanted).abs() <= 0.51, "{strength}: {mixed:?}, {wanted}");
                }
            }
        }
        // The painting is rounded first, as it is where it comes down without post-steps.
        let post = PostSteps { strength: 0.5, keep_colors: false };
        assert_eq!(apply(post, &[[9.4, 9.6, 300.0]], &[[0.0; 3]]), [[5.0, 5.0, 128.0]]);
    }

    #[test]
    fn kept_colors_are_the_photos_at_the_paintings_luminance() {
        let (painted, photo) = pixels();
        let keep = PostSteps { keep_colors: true, ..PostSteps::default() };
        let luminance = |rgb: &[f32; 3]| 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
        for ((kept, painted), photo) in apply(keep, &painted, &photo).iter().zip(&painted).zip(&photo) {
            let moved = luminance(painted) - luminance(photo);
            for channel in 0..3 {
                let wanted = (photo[channel] + moved).clamp(0.0, 255.0);
                assert!((kept[channel] - wanted).abs() <= 0.51, "{painted:?} {photo:?}: {kept:?}, {wanted}");
            }
        }
        assert_eq!(apply(keep, &photo, &photo), photo);
        // Colours first, then the strength.
        let both =
            apply(PostSteps { strength: 0.5, keep_colors: true }, &[[100.0; 3]], &[[10.0, 20.0, 30.0]]);
        assert_eq!(both, [[51.0, 61.0, 71.0]]);
    }
}
