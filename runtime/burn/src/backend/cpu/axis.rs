//! Where the rows (or columns) that a convolution sees come from: padding, doubling and dilation as one table.
//!
//! A convolution here is always "valid" with some stride over a *seen* plane. An [`Axis`] says for each row of
//! the seen plane which row of the stored plane it shows, or none (zero). So reflection, zero padding, nearest
//! doubling and the dilation of a transposed convolution cost a look-up while rows are gathered, never a pass.

use std::ops::Range;

/// Marks a seen row that shows nothing (zeros).
const NOTHING: u32 = u32::MAX;

/// One axis of the seen plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Length of the stored plane along this axis.
    pub(crate) stored: usize,
    sources: Vec<u32>,
    /// The seen rows that show stored ones one after the other: the longest such run, which is copied in one piece.
    run: Range<usize>,
    /// Zeros before the plane, where there are only zeros around it.
    zeros: Option<usize>,
}

impl Axis {
    fn new(stored: usize, seen: usize, source: impl Fn(isize) -> Option<isize>) -> Self {
        let sources: Vec<u32> = (0..seen as isize)
            .map(|at| match source(at) {
                Some(from) if (0..stored as isize).contains(&from) => from as u32,
                _ => NOTHING,
            })
            .collect();
        let mut run = 0..0;
        let mut start = 0;
        for at in 0..seen {
            let goes_on =
                at > start && sources[at] != NOTHING && sources[at - 1].checked_add(1) == Some(sources[at]);
            if !goes_on {
                start = at;
            }
            if sources[at] != NOTHING && at + 1 - start > run.len() {
                run = start..at + 1;
            }
        }
        Axis { stored, sources, run, zeros: None }
    }

    /// The plane with zeros around it.
    pub(crate) fn zeros(stored: usize, before: usize, after: usize) -> Self {
        let axis = Self::new(stored, stored + before + after, |at| Some(at - before as isize));
        Axis { zeros: Some(before), ..axis }
    }

    /// The plane, every row `times` (1 or 2) times over, mirrored at its outermost row (which is not repeated).
    pub(crate) fn reflected(stored: usize, times: usize, pad: usize) -> Self {
        let (seen, pad, times) = ((stored * times) as isize, pad as isize, times as isize);
        Self::new(stored, (seen + 2 * pad) as usize, |at| {
            let at = (at - pad).abs();
            Some((if at >= seen { 2 * (seen - 1) - at } else { at }) / times)
        })
    }

    /// The plane, every row twice, with `pad` zeros on both sides.
    pub(crate) fn doubled_zeros(stored: usize, pad: usize) -> Self {
        let seen = 2 * stored as isize;
        Self::new(stored, 2 * (stored + pad), |at| {
            let at = at - pad as isize;
            (0..seen).contains(&at).then_some(at / 2)
        })
    }

    /// The plane spread out: row `i` at `before + stride · i`, zeros between, `seen` rows in all. What a
    /// transposed convolution sees (before = kernel − 1 − cropped rows).
    pub(crate) fn dilated(stored: usize, stride: usize, before: isize, seen: usize) -> Self {
        let stride = stride as isize;
        Self::new(stored, seen, |at| {
            let at = at - before;
            (at >= 0 && at % stride == 0).then_some(at / stride)
        })
    }

    /// Zeros before the plane, if zeros are all that is seen beside it.
    pub(crate) fn zeros_before(&self) -> Option<usize> {
        self.zeros
    }

    /// Length of the seen plane.
    pub(crate) fn seen(&self) -> usize {
        self.sources.len()
    }

    /// Length after a valid convolution.
    pub(crate) fn output(&self, kernel: usize, stride: usize) -> usize {
        assert!(
            self.seen() >= kernel,
            "the padded plane ({}) is smaller than the kernel ({kernel})",
            self.seen()
        );
        (self.seen() - kernel) / stride + 1
    }

    /// The stored row that the seen row `at` shows.
    pub(crate) fn source(&self, at: usize) -> Option<usize> {
        let source = self.sources[at];
        (source != NOTHING).then_some(source as usize)
    }

    /// Writes the seen line of a stored line.
    pub(crate) fn gather(&self, stored: &[f32], seen: &mut [f32]) {
        let seen = &mut seen[..self.sources.len()];
        for at in (0..self.run.start).chain(self.run.end..self.sources.len()) {
            // `NOTHING` is past the end of every line.
            seen[at] = stored.get(self.sources[at] as usize).copied().unwrap_or(0.0);
        }
        if let Some(from) = self.source_of_run() {
            seen[self.run.clone()].copy_from_slice(&stored[from..][..self.run.len()]);
        }
    }

    /// Adds a seen line's values to the stored places that they came from: the transpose of [`Axis::gather`].
    pub(crate) fn scatter_add(&self, seen: &[f32], stored: &mut [f32]) {
        for at in (0..self.run.start).chain(self.run.end..self.sources.len()) {
            if let Some(place) = stored.get_mut(self.sources[at] as usize) {
                *place += seen[at];
            }
        }
        if let Some(to) = self.source_of_run() {
            let places = &mut stored[to..][..self.run.len()];
            places.iter_mut().zip(&seen[self.run.clone()]).for_each(|(place, value)| *place += value);
        }
    }

    fn source_of_run(&self) -> Option<usize> {
        (!self.run.is_empty()).then(|| self.sources[self.run.start] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(axis: &Axis) -> Vec<f32> {
        let stored: Vec<f32> = (1..=axis.stored).map(|v| v as f32).collect();
        let mut seen = vec![9.0; axis.seen()];
        axis.gather(&stored, &mut seen);
        seen
    }

    #[test]
    fn each_kind_of_padding_shows_the_right_rows() {
        assert_eq!(seen(&Axis::zeros(3, 1, 2)), [0., 1., 2., 3., 0., 0.]);
        assert_eq!(seen(&Axis::reflected(3, 1, 2)), [3., 2., 1., 2., 3., 2., 1.]);
        assert_eq!(seen(&Axis::reflected(2, 2, 1)), [1., 1., 1., 2., 2., 2.]);
        assert_eq!(seen(&Axis::doubled_zeros(2, 1)), [0., 1., 1., 2., 2., 0.]);
        assert_eq!(seen(&Axis::dilated(2, 2, 1, 6)), [0., 1., 0., 2., 0., 0.]);
        assert_eq!(seen(&Axis::dilated(3, 2, -1, 4)), [0., 2., 0., 3.]);
        assert_eq!(seen(&Axis::dilated(4, 1, -1, 4)), [2., 3., 4., 0.]);
        assert_eq!(seen(&Axis::dilated(1, 1, 3, 3)), [0., 0., 0.]);
    }

    #[test]
    fn scattering_is_the_transpose_of_gathering() {
        for axis in [Axis::zeros(5, 2, 1), Axis::reflected(5, 2, 4), Axis::dilated(5, 2, 1, 12)] {
            let x: Vec<f32> = (0..axis.stored).map(|i| (i * i % 7) as f32).collect();
            let y: Vec<f32> = (0..axis.seen()).map(|i| (i * 3 % 5) as f32).collect();
            let (mut gathered, mut scattered) = (vec![0.0; axis.seen()], vec![0.0; axis.stored]);
            axis.gather(&x, &mut gathered);
            axis.scatter_add(&y, &mut scattered);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            assert_eq!(dot(&gathered, &y), dot(&x, &scattered), "{axis:?}");
        }
    }
}
