//! Every kind of convolution as plain valid ones over a *prepared* plane: the source with its border added.
//!
//! Per axis, a convolution is a map from prepared to source indices (padding), a stride, and one or two
//! *phases*. An ordinary convolution has one phase. A doubling has two, one for the even and one for the odd
//! outputs, each a small kernel over the plane that is *not* doubled:
//! - nearest neighbour, then 3 taps: output `2y + a` sees two source rows, one of them through the sum of two
//!   taps. (Reflection after the doubling is edge padding before it.) It can also be seen [whole](Axis::whole):
//!   one phase over the doubled plane.
//! - transposed, stride 2: each phase has the taps that do not fall between source rows.

use impasto_checkpoints::{ConvKind, ConvSpec, Padding};

/// One axis of a convolution.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    kind: ConvKind,
    padding: Padding,
    kernel: usize,
    /// Whether the prepared plane is doubled.
    doubled: bool,
    /// One phase, or two for a doubling.
    pub(super) phases: Vec<AxisPhase>,
}

/// One phase of an axis: output `up · base + phase` sums over prepared indices
/// `base · stride + offset .. + taps.len()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AxisPhase {
    /// First prepared index, seen from `base · stride`.
    pub(super) offset: usize,
    /// For each prepared index, the kernel indices (as in the file) whose weights are summed.
    pub(super) taps: Vec<Vec<usize>>,
}

impl Axis {
    pub(super) fn new(spec: &ConvSpec, padding: Padding) -> Self {
        let kernel = spec.kernel;
        let phases = match spec.kind {
            ConvKind::Strided(_) => {
                vec![AxisPhase { offset: 0, taps: (0..kernel).map(|k| vec![k]).collect() }]
            }
            // Doubled index 2y + a − half + k reads the source at half of that; prepared is source + 1.
            ConvKind::NearestDoubled => {
                let half = kernel / 2;
                phases(kernel, |a, k| Some((a + k).wrapping_sub(half).wrapping_add(2) / 2))
            }
            // out[o] = Σ_k w[k] · in[(o + crop − k) / 2] where that is whole. PyTorch's padding=1 crops one
            // output at the beginning, TensorFlow's SAME none.
            ConvKind::Transposed => {
                let crop = usize::from(padding == Padding::Reflect);
                phases(kernel, |a, k| {
                    let doubled = (a + crop + 2).checked_sub(k)?;
                    (doubled % 2 == 0).then_some(doubled / 2)
                })
            }
        };
        Axis { kind: spec.kind, padding, kernel, doubled: false, phases }
    }

    /// As [`Axis::new`], but a nearest-neighbour doubling is one phase over the doubled plane. All outputs are then
    /// sums of the same products in the same order, so that a flat plane stays exactly flat.
    pub(super) fn whole(spec: &ConvSpec, padding: Padding) -> Self {
        let mut axis = Self::new(spec, padding);
        if spec.kind == ConvKind::NearestDoubled {
            axis.doubled = true;
            axis.phases = vec![AxisPhase { offset: 0, taps: (0..spec.kernel).map(|k| vec![k]).collect() }];
        }
        axis
    }

    /// Whether prepared indices read source indices twice, side by side.
    pub(super) fn is_doubled(&self) -> bool {
        self.doubled
    }

    /// Prepared indices from one base to the next.
    pub(super) fn stride(&self) -> usize {
        match self.kind {
            ConvKind::Strided(stride) => stride,
            ConvKind::NearestDoubled | ConvKind::Transposed => 1,
        }
    }

    /// Outputs per base: the number of phases.
    pub(super) fn up(&self) -> usize {
        self.phases.len()
    }

    /// Prepared indices that the outputs of one base see.
    pub(super) fn reach(&self) -> usize {
        self.phases.iter().map(|phase| phase.offset + phase.taps.len()).max().unwrap_or(0)
    }

    /// Bases for `n` source indices; there are `up` times as many outputs.
    pub(super) fn bases(&self, n: usize) -> usize {
        if self.doubled { 2 * n } else { n.div_ceil(self.stride()) }
    }

    /// Prepared indices for `n` source indices, and how many of them lie before the source.
    fn prepared(&self, n: usize) -> (usize, usize) {
        match (self.kind, self.padding) {
            (ConvKind::Strided(_), Padding::Reflect) => (n + 2 * (self.kernel / 2), self.kernel / 2),
            (ConvKind::Strided(stride), Padding::ZeroSame) => {
                let length = ((n.div_ceil(stride) - 1) * stride + self.kernel).max(n);
                (length, (length - n) / 2)
            }
            _ if self.doubled => (2 * n + 2 * (self.kernel / 2), self.kernel / 2),
            _ => (n + 2, 1),
        }
    }

    /// Number of prepared indices for `n` source indices.
    pub(super) fn prepared_length(&self, n: usize) -> usize {
        self.prepared(n).0
    }

    /// Prepared index of source index 0.
    pub(super) fn before(&self, n: usize) -> usize {
        self.prepared(n).1
    }

    /// Which source index a prepared index reads; `None`: zero.
    pub(super) fn source(&self, prepared: usize, n: usize) -> Option<usize> {
        if self.doubled {
            let half = self.kernel / 2;
            let inside = prepared.checked_sub(half).filter(|&i| i < 2 * n);
            return match (inside, self.padding) {
                (Some(i), _) => Some(i / 2),
                (None, Padding::ZeroSame) => None,
                (None, Padding::Reflect) if prepared < half => Some((half - prepared) / 2),
                (None, Padding::Reflect) => Some((2 * (2 * n - 1) + half - prepared) / 2),
            };
        }
        let (length, before) = self.prepared(n);
        debug_assert!(prepared < length);
        let (i, last) = (prepared as isize - before as isize, n as isize - 1);
        match (self.kind, self.padding) {
            _ if (0..=last).contains(&i) => Some(i as usize),
            (ConvKind::Transposed, _) | (_, Padding::ZeroSame) => None,
            (ConvKind::NearestDoubled, Padding::Reflect) => Some(i.clamp(0, last) as usize),
            (_, Padding::Reflect) if i < 0 => Some(-i as usize),
            (_, Padding::Reflect) => Some((2 * last - i) as usize),
        }
    }
}

/// The two phases of a doubling: `at(a, k)` is the prepared index, seen from the base, that kernel index `k`
/// reads for the outputs of phase `a`.
fn phases(kernel: usize, at: impl Fn(usize, usize) -> Option<usize>) -> Vec<AxisPhase> {
    let phase = |a| {
        let reads: Vec<_> = (0..kernel).filter_map(|k| Some((at(a, k)?, k))).collect();
        let offset = reads.iter().map(|&(index, _)| index).min().unwrap_or(0);
        let end = reads.iter().map(|&(index, _)| index + 1).max().unwrap_or(0);
        let taps = (offset..end)
            .map(|index| reads.iter().filter(|&&(i, _)| i == index).map(|&(_, k)| k).collect())
            .collect();
        AxisPhase { offset, taps }
    };
    vec![phase(0), phase(1)]
}

/// Weights of a convolution as its file holds them, read through phases.
pub(super) struct Weights<'a> {
    spec: &'a ConvSpec,
    values: &'a [f32],
    bf16: bool,
}

impl<'a> Weights<'a> {
    /// `bf16`: each weight is rounded to bf16. Sums of taps are not: with rounded sums the phases of a doubling
    /// would differ on a flat plane, and an instance norm would make a checkerboard of that.
    pub(super) fn new(spec: &'a ConvSpec, values: &'a [f32], bf16: bool) -> Self {
        Weights { spec, values, bf16 }
    }

    /// The weight of one tap of a phase: the sum over `ky × kx` of the kernel; zero outside the channels.
    pub(super) fn at(&self, output: usize, input: usize, ky: &[usize], kx: &[usize]) -> f64 {
        let (k, inputs, outputs) = (self.spec.kernel, self.spec.input, self.spec.output);
        if input >= inputs || output >= outputs {
            return 0.0;
        }
        let plane = match self.spec.kind {
            ConvKind::Transposed => input * outputs + output,
            _ => output * inputs + input,
        };
        let value = |y: &usize, x: &usize| {
            let value = self.values[(plane * k + y) * k + x];
            f64::from(if self.bf16 { super::round_bf16(value) } else { value })
        };
        ky.iter().flat_map(|y| kx.iter().map(move |x| value(y, x))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(kind: ConvKind, kernel: usize, padding: Padding) -> Axis {
        Axis::new(&ConvSpec { name: String::new(), kernel, input: 1, output: 1, kind }, padding)
    }

    fn map(kind: ConvKind, kernel: usize, padding: Padding, n: usize) -> (Vec<i64>, usize) {
        let axis = axis(kind, kernel, padding);
        let sources = (0..axis.prepared_length(n)).map(|i| axis.source(i, n).map_or(-1, |i| i as i64));
        (sources.collect(), axis.bases(n) * axis.up())
    }

    fn taps(kind: ConvKind, padding: Padding) -> Vec<(usize, Vec<Vec<usize>>)> {
        axis(kind, 3, padding).phases.into_iter().map(|phase| (phase.offset, phase.taps)).collect()
    }

    #[test]
    fn axes_by_hand() {
        use ConvKind::{NearestDoubled, Strided, Transposed};
        use Padding::{Reflect, ZeroSame};
        assert_eq!(map(Strided(1), 5, Reflect, 4), (vec![2, 1, 0, 1, 2, 3, 2, 1], 4));
        assert_eq!(map(Strided(2), 3, ZeroSame, 4), (vec![0, 1, 2, 3, -1], 2));
        assert_eq!(map(Strided(2), 3, ZeroSame, 5), (vec![-1, 0, 1, 2, 3, 4, -1], 3));
        assert_eq!(map(NearestDoubled, 3, Reflect, 2), (vec![0, 0, 1, 1], 4));
        assert_eq!(map(NearestDoubled, 3, ZeroSame, 2), (vec![-1, 0, 1, -1], 4));
        assert_eq!(map(Transposed, 3, ZeroSame, 2), (vec![-1, 0, 1, -1], 4));
    }

    #[test]
    fn a_doubling_seen_whole_by_hand() {
        let spec = |padding| {
            let kind = ConvKind::NearestDoubled;
            let axis =
                Axis::whole(&ConvSpec { name: String::new(), kernel: 3, input: 1, output: 1, kind }, padding);
            let sources: Vec<_> =
                (0..axis.prepared_length(2)).map(|i| axis.source(i, 2).map_or(-1, |i| i as i64)).collect();
            (sources, axis.bases(2) * axis.up())
        };
        assert_eq!(spec(Padding::Reflect), (vec![0, 0, 0, 1, 1, 1], 4));
        assert_eq!(spec(Padding::ZeroSame), (vec![-1, 0, 0, 1, 1, -1], 4));
    }

    #[test]
    fn phases_by_hand() {
        use ConvKind::{NearestDoubled, Transposed};
        // Doubled rows 2y − 1, 2y, 2y + 1 are source rows y − 1, y, y.
        let doubled = vec![(0, vec![vec![0], vec![1, 2]]), (1, vec![vec![0, 1], vec![2]])];
        assert_eq!(taps(NearestDoubled, Padding::Reflect), doubled);
        assert_eq!(taps(NearestDoubled, Padding::ZeroSame), doubled);
        // PyTorch's padding=1: out[2y] = w1·in[y], out[2y + 1] = w2·in[y] + w0·in[y + 1].
        assert_eq!(taps(Transposed, Padding::Reflect), vec![(1, vec![vec![1]]), (1, vec![vec![2], vec![0]])]);
        // TensorFlow: out[2y] = w2·in[y − 1] + w0·in[y], out[2y + 1] = w1·in[y].
        assert_eq!(
            taps(Transposed, Padding::ZeroSame),
            vec![(0, vec![vec![2], vec![0]]), (1, vec![vec![1]])]
        );
    }
}
