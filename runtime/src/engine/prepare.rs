//! Bringing a plane into the shape in which every convolution is a plain one: padding, nearest-neighbour
//! doubling and the zeros of a transposed convolution are all a map from prepared to source indices.

use impasto_checkpoints::{ConvKind, Padding};

use super::round_bf16;
use super::threads::Threads;

/// Channels-last activations: `data[(y · width + x) · channels + c]`.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) data: Vec<f32>,
}

impl Plane {
    /// Sets the size, keeping the buffer; the values are unspecified afterwards.
    pub(super) fn reshape(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.data.resize(height * width * channels, 0.0);
    }
}

/// For one axis: which source index each prepared index reads (`None`: zero), and how many outputs the
/// convolution has along it.
pub(super) struct IndexMap {
    pub(super) source: Vec<Option<usize>>,
    pub(super) outputs: usize,
}

impl IndexMap {
    pub(super) fn new(kind: ConvKind, kernel: usize, padding: Padding, n: usize) -> Self {
        let half = kernel / 2;
        match kind {
            ConvKind::Strided(stride) => {
                let outputs = n.div_ceil(stride);
                let (before, length) = match padding {
                    Padding::Reflect => (half, n + 2 * half),
                    Padding::ZeroSame => {
                        let length = ((outputs - 1) * stride + kernel).max(n);
                        ((length - n) / 2, length)
                    }
                };
                let source = (0..length).map(|p| outside(p as isize - before as isize, n, padding));
                IndexMap { source: source.collect(), outputs }
            }
            ConvKind::NearestDoubled => {
                let source = (0..2 * n + 2 * half)
                    .map(|p| outside(p as isize - half as isize, 2 * n, padding).map(|doubled| doubled / 2));
                IndexMap { source: source.collect(), outputs: 2 * n }
            }
            // out[o] = Σ_k w[k] · in[(o + crop − k) / 2] where that is whole: a plain convolution with the
            // mirrored kernel over the input with zeros between.
            ConvKind::Transposed => {
                let crop = match padding {
                    Padding::Reflect => 1,
                    Padding::ZeroSame => 0,
                };
                let source = (0..2 * n + kernel - 1).map(|p| {
                    let q = (p + crop).checked_sub(kernel - 1)?;
                    (q % 2 == 0 && q / 2 < n).then_some(q / 2)
                });
                IndexMap { source: source.collect(), outputs: 2 * n }
            }
        }
    }
}

/// The index that stands in for `i` when it lies outside `0..n`.
fn outside(i: isize, n: usize, padding: Padding) -> Option<usize> {
    let last = n as isize - 1;
    match padding {
        _ if (0..=last).contains(&i) => Some(i as usize),
        Padding::ZeroSame => None,
        Padding::Reflect if i < 0 => Some(-i as usize),
        Padding::Reflect => Some((2 * last - i) as usize),
    }
}

/// Copies `source` through the index maps, rounding to bf16 where the kernels would.
pub(super) fn prepare(
    source: &Plane,
    rows: &IndexMap,
    columns: &IndexMap,
    bf16: bool,
    prepared: &mut Plane,
    threads: &Threads,
) {
    let c = source.channels;
    prepared.reshape(rows.source.len(), columns.source.len(), c);
    threads.for_each_row(&mut prepared.data, columns.source.len() * c, |y, row| {
        let Some(from) = rows.source[y] else {
            return row.fill(0.0);
        };
        let from = &source.data[from * source.width * c..][..source.width * c];
        for (pixel, x) in row.chunks_exact_mut(c).zip(&columns.source) {
            match x {
                Some(x) => pixel.copy_from_slice(&from[x * c..][..c]),
                None => pixel.fill(0.0),
            }
        }
        if bf16 {
            row.iter_mut().for_each(|value| *value = round_bf16(*value));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(kind: ConvKind, kernel: usize, padding: Padding, n: usize) -> (Vec<i64>, usize) {
        let map = IndexMap::new(kind, kernel, padding, n);
        (map.source.iter().map(|i| i.map_or(-1, |i| i as i64)).collect(), map.outputs)
    }

    #[test]
    fn axes_by_hand() {
        use ConvKind::{NearestDoubled, Strided, Transposed};
        use Padding::{Reflect, ZeroSame};
        assert_eq!(map(Strided(1), 5, Reflect, 4), (vec![2, 1, 0, 1, 2, 3, 2, 1], 4));
        assert_eq!(map(Strided(2), 3, ZeroSame, 4), (vec![0, 1, 2, 3, -1], 2));
        assert_eq!(map(Strided(2), 3, ZeroSame, 5), (vec![-1, 0, 1, 2, 3, 4, -1], 3));
        assert_eq!(map(NearestDoubled, 3, Reflect, 2), (vec![0, 0, 0, 1, 1, 1], 4));
        assert_eq!(map(Transposed, 3, ZeroSame, 2), (vec![-1, -1, 0, -1, 1, -1], 4));
        assert_eq!(map(Transposed, 3, Reflect, 2), (vec![-1, 0, -1, 1, -1, -1], 4));
    }
}
