//! Pictures in f32 between the steps of an optimization: unclamped, resized without rounding, to and from tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::error::{BurnError, one_line};

/// A picture in f32, rows from the top, red green blue interleaved.
///
/// # Units
/// RGB 0..255; values outside are kept until [`RgbPicture::to_bytes`].
#[derive(Debug, Clone, PartialEq)]
pub struct RgbPicture {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl RgbPicture {
    /// Wraps values.
    ///
    /// # Errors
    /// [`BurnError::BufferSize`] unless there are `width · height · 3` values, and more than none.
    pub fn new(width: usize, height: usize, rgb255: Vec<f32>) -> Result<Self, BurnError> {
        let expected = width.saturating_mul(height).saturating_mul(3);
        if expected == 0 || rgb255.len() != expected {
            return Err(BurnError::BufferSize { found: rgb255.len(), expected, width, height });
        }
        Ok(RgbPicture { width, height, values: rgb255 })
    }

    /// From 8-bit RGB.
    ///
    /// # Errors
    /// As [`RgbPicture::new`].
    pub fn from_bytes(width: usize, height: usize, rgb: &[u8]) -> Result<Self, BurnError> {
        Self::new(width, height, rgb.iter().map(|&value| f32::from(value)).collect())
    }

    /// Rounded and clamped to 8-bit RGB.
    pub fn to_bytes(&self) -> Vec<u8> {
        // `as` saturates, and takes NaN to 0.
        self.values.iter().map(|value| value.round() as u8).collect()
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The values.
    pub fn rgb255(&self) -> &[f32] {
        &self.values
    }

    /// The longer side.
    pub fn longer_side(&self) -> usize {
        self.width.max(self.height)
    }

    /// The size with the same aspect whose longer side is `longer`; no side is 0.
    pub fn size_for(&self, longer: usize) -> (usize, usize) {
        let scale = longer.max(1) as f64 / self.longer_side() as f64;
        let side = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        (side(self.width), side(self.height))
    }

    /// Resampled with Lanczos 3, whose kernel is widened when shrinking. A side of 0 becomes 1.
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let mut across = vec![0.0; width * self.height * 3];
        let columns = taps(self.width, width);
        for (row, line) in self.values.chunks_exact(self.width * 3).zip(across.chunks_exact_mut(width * 3)) {
            for (pixel, (first, weights)) in line.chunks_exact_mut(3).zip(&columns) {
                for (weight, from) in weights.iter().zip(row[first * 3..].chunks_exact(3)) {
                    pixel.iter_mut().zip(from).for_each(|(to, value)| *to += weight * value);
                }
            }
        }
        let mut values = vec![0.0; width * height * 3];
        for (line, (first, weights)) in values.chunks_exact_mut(width * 3).zip(taps(self.height, height)) {
            for (weight, from) in weights.iter().zip(across[first * width * 3..].chunks_exact(width * 3)) {
                line.iter_mut().zip(from).for_each(|(to, value)| *to += weight * value);
            }
        }
        RgbPicture { width, height, values }
    }

    /// Value by value: `self + other`, of the same size.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.values.iter_mut().zip(&other.values).for_each(|(value, more)| *value += more);
        self
    }

    /// Value by value: `self − other`, of the same size.
    pub(crate) fn minus(mut self, other: &Self) -> Self {
        self.values.iter_mut().zip(&other.values).for_each(|(value, less)| *value -= less);
        self
    }

    /// `[1, 3, height, width]`.
    pub(crate) fn to_tensor<B: Backend>(&self, place: &B::Device) -> Tensor<B, 4> {
        let data = TensorData::new(self.values.clone(), [1, self.height, self.width, 3]);
        Tensor::<B, 4>::from_data(data, place).permute([0, 3, 1, 2])
    }

    /// From `[1, 3, height, width]`.
    pub(crate) fn from_tensor<B: Backend>(tensor: Tensor<B, 4>) -> Result<Self, BurnError> {
        let [_, _, height, width] = tensor.dims();
        let lost = |reason: String| BurnError::Iteration {
            reason: format!("the device does not give the picture back: {}", one_line(&reason)),
        };
        let data = tensor.permute([0, 2, 3, 1]).try_into_data().map_err(|error| lost(error.to_string()))?;
        let values = data.convert::<f32>().into_vec::<f32>().map_err(|error| lost(format!("{error:?}")))?;
        Self::new(width, height, values)
    }
}

/// For each of `to` places along an axis of `from`: the first place read, and the weights from there on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    const LOBES: f64 = 3.0;
    let lanczos = |x: f64| {
        let sinc = |x: f64| {
            if x == 0.0 { 1.0 } else { (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x) }
        };
        if x.abs() < LOBES { sinc(x) * sinc(x / LOBES) } else { 0.0 }
    };
    let step = from as f64 / to as f64;
    let width = step.max(1.0);
    (0..to)
        .map(|at| {
            let centre = (at as f64 + 0.5) * step - 0.5;
            let first = (centre - LOBES * width).ceil().max(0.0) as usize;
            let last = ((centre + LOBES * width).floor() as usize).min(from - 1);
            let weights: Vec<f64> =
                (first..=last).map(|place| lanczos((place as f64 - centre) / width)).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|weight| (weight / sum) as f32).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_stays_a_ramp_and_flat_stays_flat() {
        let ramp = |width: usize| {
            let row = (0..width).flat_map(|x| {
                let value = 20.0 + 200.0 * (x as f32 + 0.5) / width as f32;
                [value, 77.0, 255.0 - value]
            });
            RgbPicture::new(width, 2, row.clone().chain(row).collect()).unwrap()
        };
        for (from, to) in [(64, 32), (32, 64), (60, 41)] {
            let found = ramp(from).resized(to, 5);
            assert_eq!((found.width(), found.height()), (to, 5));
            let expected = ramp(to);
            for (x, (found, expected)) in
                found.rgb255().chunks_exact(3).zip(expected.rgb255().chunks_exact(3)).enumerate()
            {
                // At the ends the kernel, three pixels of the coarser grid to each side, is cut off.
                let end = 1 + 3 * to.div_ceil(from);
                if (end..to - end).contains(&x) {
                    for (found, expected) in found.iter().zip(expected) {
                        assert!((found - expected).abs() < 0.2, "{from} to {to} at {x}: {found}, {expected}");
                    }
                }
            }
        }
        let flat = RgbPicture::new(9, 7, vec![-31.5; 9 * 7 * 3]).unwrap();
        for (width, height) in [(1, 1), (40, 1), (3, 30)] {
            let found = flat.resized(width, height);
            assert!(found.rgb255().iter().all(|value| (value + 31.5).abs() < 1e-4), "{width}x{height}");
        }
    }

    #[test]
    fn tensors_and_bytes_come_back() {
        let picture = RgbPicture::new(3, 2, (0..18).map(|v| v as f32 * 20.0 - 30.0).collect()).unwrap();
        let tensor = picture.to_tensor::<crate::backend::Cpu>(&Default::default());
        assert_eq!(tensor.dims(), [1, 3, 2, 3]);
        assert_eq!(RgbPicture::from_tensor(tensor).unwrap(), picture);
        assert_eq!(picture.to_bytes()[..4], [0, 0, 10, 30]);
        assert_eq!(picture.to_bytes()[15..], [255, 255, 255]);
        assert!(RgbPicture::new(2, 2, vec![0.0; 11]).is_err() && RgbPicture::new(0, 2, Vec::new()).is_err());
        assert_eq!(picture.size_for(300), (300, 200));
        assert_eq!(picture.size_for(1), (1, 1));
    }
}
