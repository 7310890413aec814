//! The painting so far, moved along, and mixed with the new one.
//!
//! `out = own + weight · trust · (history − own)`, the history resampled where it moves, and held to the range of
//! the new painting's neighbourhood and a little beyond.

use crate::frame::Frame;

use super::motion::{CELL, Field, RUN};
use super::team::Team;
use super::trust::{Trust, cubic, floor, least, within};

/// Pixels repeated beyond each side of a history.
const BORDER: usize = 3;
/// Rows that a thread takes at a time.
pub(super) const BAND: usize = 16;
/// Pixels of a frame in a cell of the motion, which is known at half its size.
const SIDE: usize = 2 * CELL;
/// Rows of which one is looked at to compare sharpness.
const SPARSE: usize = 8;
/// Frames after which a history counts as old.
const OLD: f32 = 30.0;

/// See [`most_sharpen`].
const HIGHEST: f32 = 2.0;

/// A pixel of the smoothed painting: RGB in 255ths, not rounded, and of how many frames it is the mean.
type Pixel = [f32; 4];

/// The smoothed painting of the frame before.
#[derive(Default)]
pub(super) struct History {
    width: usize,
    height: usize,
    stride: usize,
    pixels: Vec<Pixel>,
}

impl History {
    pub(super) fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height, self.stride) = (width, height, width + 2 * BORDER);
        self.pixels.resize(self.stride * (height + 2 * BORDER), [0.0; 4]);
    }

    /// Starts afresh with a painting.
    pub(super) fn take(&mut self, painted: &Frame) {
        let (width, stride) = (self.width, self.stride);
        let inner = self.pixels[BORDER * stride..].chunks_exact_mut(stride);
        for (out, row) in inner.zip(painted.rgb().chunks_exact(width * 3)) {
            for (out, p) in out[BORDER..].iter_mut().zip(row.chunks_exact(3)) {
                *out = [f32::from(p[0]), f32::from(p[1]), f32::from(p[2]), 1.0];
            }
            close_row(out, width);
        }
        self.close();
    }

    /// Repeats the first and the last row beyond them.
    fn close(&mut self) {
        let (stride, height) = (self.stride, self.height);
        for border in 0..BORDER {
            let last = (BORDER + height - 1) * stride;
            self.pixels.copy_within(BORDER * stride..(BORDER + 1) * stride, border * stride);
            self.pixels.copy_within(last..last + stride, (BORDER + height + border) * stride);
        }
    }
}

/// Repeats a row's first and last pixel beyond them.
fn close_row(row: &mut [Pixel], width: usize) {
    let (first, last) = (row[BORDER], row[BORDER + width - 1]);
    row[..BORDER].fill(first);
    row[BORDER + width..].fill(last);
}

/// What a frame's mixing needs.
pub(super) struct Mix<'a> {
    pub(super) history: &'a History,
    pub(super) field: &'a Field,
    pub(super) trust: &'a Trust,
    /// The painting as the network made it.
    pub(super) own: &'a [u8],
    /// Greatest weight of the history.
    pub(super) weight: f32,
    /// How far beyond its neighbourhood's range the history may be.
    pub(super) margin: f32,
    /// How much the history's detail is raised, in parts of its second difference.
    pub(super) sharpen: f32,
}

/// What a mix came to; sums over a band, then over all in their order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Distances of the trusted history from the painting, in each channel.
    apart: Pixel,
    trust: f32,
    /// Steps from pixel to pixel in the painting as it came and as it went.
    steps: [u32; 2],
}

impl Tally {
    pub(super) fn total(tallies: &[Tally]) -> Tally {
        tallies.iter().fold(Tally::default(), |mut total, tally| {
            total.apart.iter_mut().zip(&tally.apart).for_each(|(total, apart)| *total += apart);
            total.trust += tally.trust;
            total.steps.iter_mut().zip(&tally.steps).for_each(|(total, steps)| *total += steps);
            total
        })
    }

    /// Mean distance of the trusted history from the painting, in 255ths: how much the style flickers.
    pub(super) fn flicker(&self) -> f32 {
        self.apart[..3].iter().sum::<f32>() / (3.0 * self.trust.max(1.0))
    }

    /// Sharpness of the result, the painting's as 1.
    pub(super) fn sharpness(&self) -> f32 {
        (self.steps[1] as f32 + 1.0) / (self.steps[0] as f32 + 1.0)
    }
}

impl Mix<'_> {
    /// Writes the smoothed painting into `painted` and `next`.
    pub(super) fn run(
        &self,
        painted: &mut Frame,
        next: &mut History,
        tallies: &mut [Tally],
        team: &mut Team,
    ) {
        let (width, height, stride) = (next.width, next.height, next.stride);
        let inner = &mut next.pixels[BORDER * stride..(BORDER + height) * stride];
        let painted = painted.rgb_mut().chunks_mut(BAND * width * 3);
        let bands = painted.zip(inner.chunks_mut(BAND * stride)).zip(tallies.iter_mut()).enumerate();
        team.share(bands, |(band, ((painted, next), tally))| {
            *tally = Tally::default();
            let rows = painted.chunks_exact_mut(width * 3).zip(next.chunks_exact_mut(stride));
            for (line, (painted, next)) in rows.enumerate() {
                let y = band * BAND + line;
                let runs = painted.chunks_mut(RUN * 3).zip(next[BORDER..BORDER + width].chunks_mut(RUN));
                for (run, (painted, next)) in runs.enumerate() {
                    self.run_of_pixels(run * RUN, y, painted, next, tally);
                }
                close_row(next, width);
                if y.is_multiple_of(SPARSE) {
                    tally.steps[0] += steps(self.own_row(y));
                    tally.steps[1] += steps(painted);
                }
            }
        });
        next.close();
    }

    fn own_row(&self, y: usize) -> &[u8] {
        let bytes = self.history.width * 3;
        &self.own[y.min(self.history.height - 1) * bytes..][..bytes]
    }

    /// Mixes up to [`RUN`] pixels from (`x`, `y`) on.
    fn run_of_pixels(&self, x: usize, y: usize, painted: &mut [u8], next: &mut [Pixel], tally: &mut Tally) {
        let own = widen(&self.own_row(y)[x * 3..], painted.len());
        let [low, high] = self.range(x, y, next.len());
        let trust = self.trust.expand(x, y);
        let places = self.places(x, y);
        let mut mixed = [0.0_f32; RUN * 3 + 1];
        let (mut apart, mut trusted) = ([0.0_f32; 4], 0.0);
        for (i, next) in next.iter_mut().enumerate() {
            let history = places.sample(i, self.history);
            let trust = trust[i];
            let frames = within(history[3] * trust, 0.0, OLD);
            // A young history is the mean of few, and counts as few; as two more than they are, so that a video's
            // second frame is calm already.
            let weight = least((frames + 2.0) / (frames + 3.0), self.weight) * trust;
            let at =
                |values: &[f32; RUN * 3 + 1]| -> Pixel { std::array::from_fn(|lane| values[3 * i + lane]) };
            let (own, low, high) = (at(&own), at(&low), at(&high));
            let mut out = [0.0; 4];
            for lane in 0..4 {
                apart[lane] += trust * (history[lane] - own[lane]).abs();
                let held = within(history[lane], low[lane] - self.margin, high[lane] + self.margin);
                out[lane] = own[lane] + weight * (held - own[lane]);
            }
            trusted += trust;
            mixed[3 * i..3 * i + 3].copy_from_slice(&out[..3]);
            out[3] = frames + 1.0;
            *next = out;
        }
        tally.trust += trusted;
        tally.apart.iter_mut().zip(&apart).for_each(|(sum, apart)| *sum += apart);
        for (out, &value) in painted.iter_mut().zip(&mixed) {
            // Adding 2²³ leaves the nearest whole number in the lowest bits.
            *out = (within(value, 0.0, 255.0) + 8_388_608.0).to_bits() as u8;
        }
    }

    /// Lowest and highest value among a pixel and its eight neighbours, channel by channel.
    fn range(&self, x: usize, y: usize, count: usize) -> [[f32; RUN * 3 + 1]; 2] {
        let width = self.history.width;
        // From the pixel before the run to the one behind it, the border repeated.
        let (first, end) = (x.saturating_sub(1), (x + count + 1).min(width));
        let skip = (first + 1 - x) * 3;
        let (mut low, mut high) = ([0_u8; (RUN + 2) * 3], [0_u8; (RUN + 2) * 3]);
        let rows = [y.saturating_sub(1), y, y + 1].map(|y| &self.own_row(y)[first * 3..end * 3]);
        let all = rows[0].iter().zip(rows[1]).zip(rows[2]);
        let out = low[skip..].iter_mut().zip(high[skip..].iter_mut());
        for ((low, high), ((&a, &b), &c)) in out.zip(all) {
            (*low, *high) = (a.min(b).min(c), a.max(b).max(c));
        }
        let behind = skip + rows[0].len();
        for plane in [&mut low, &mut high] {
            plane.copy_within(skip..skip + 3, 0);
            if behind < (count + 2) * 3 {
                plane.copy_within(behind - 3..behind, behind);
            }
        }
        let mut range = [[0.0; RUN * 3 + 1]; 2];
        for i in 0..RUN * 3 {
            range[0][i] = f32::from(low[i].min(low[i + 3]).min(low[i + 6]));
            range[1][i] = f32::from(high[i].max(high[i + 3]).max(high[i + 6]));
        }
        range
    }

    /// Where the pixels of a run were, as places in the history.
    fn places(&self, x: usize, y: usize) -> Places {
        let mut flow = [[0.0; _]; 2];
        self.field.expand(x, y, SIDE, &mut flow);
        let mut places = Places { first: [0; RUN], across: [[0.0; RUN]; 4], down: [[0.0; RUN]; 4] };
        let stride = self.history.stride as i32;
        for i in 0..RUN {
            let [dx, dy] = [0, 1].map(|axis| 2.0 * flow[axis][SIDE / 2 + i]);
            let (left, fx) = floor(within((x + i) as f32 + dx, -1.0, self.history.width as f32));
            let (top, fy) = floor(within(y as f32 + dy, -1.0, self.history.height as f32));
            let border = BORDER as i32 - 1;
            places.first[i] = (top + border) * stride + left + border;
            let (across, down) = (raised(fx, self.sharpen), raised(fy, self.sharpen));
            for tap in 0..4 {
                (places.across[tap][i], places.down[tap][i]) = (across[tap], down[tap]);
            }
        }
        places
    }
}

/// Places of a run's pixels in a history: the first of 4×4 neighbours, and their weights.
struct Places {
    first: [i32; RUN],
    across: [[f32; RUN]; 4],
    down: [[f32; RUN]; 4],
}

impl Places {
    #[inline(always)]
    fn sample(&self, i: usize, history: &History) -> Pixel {
        let mut sum = [0.0; 4];
        for line in 0..4 {
            let first = self.first[i] as usize + line * history.stride;
            let row: &[Pixel; 4] =
                history.pixels[first..].first_chunk().expect("the border is wider than a place's reach");
            let mut across = [0.0; 4];
            for (pixel, weights) in row.iter().zip(&self.across) {
                for lane in 0..4 {
                    across[lane] += weights[i] * pixel[lane];
                }
            }
            for lane in 0..4 {
                sum[lane] += self.down[line][i] * across[lane];
            }
        }
        sum
    }
}

/// [`cubic`], its detail raised: a part of the second difference at the two nearest pixels taken away, in the measure in
/// which the place lies between pixels. On a pixel nothing is lost, and raising would feed on itself.
#[inline(always)]
fn raised(f: f32, sharpen: f32) -> [f32; 4] {
    let weights = cubic(f);
    let sharpen = sharpen * 4.0 * f * (1.0 - f);
    let (left, right) = (sharpen * (1.0 - f), sharpen * f);
    [
        weights[0] - left / 2.0,
        weights[1] + left - right / 2.0,
        weights[2] + right - left / 2.0,
        weights[3] - right / 2.0,
    ]
}

/// How much a history of this weight may be raised, so that no wave in it becomes higher than [`HIGHEST`] times what
/// the paintings have of it, however long it is moved by the same part of a pixel: with the resampling's greatest gain
/// `g` along an axis, `(1 − weight) / (1 − weight · g²)`. That gain is 1.029 + 0.49 · sharpen.
pub(super) fn most_sharpen(weight: f32) -> f32 {
    let gain = ((1.0 - (1.0 - weight) / HIGHEST) / weight).sqrt();
    ((gain - 1.029) / 0.49).max(0.0)
}

/// A run's bytes as floats.
fn widen(bytes: &[u8], count: usize) -> [f32; RUN * 3 + 1] {
    let mut floats = [0.0; RUN * 3 + 1];
    floats.iter_mut().zip(&bytes[..count]).for_each(|(float, &byte)| *float = f32::from(byte));
    floats
}

/// Sum of the steps in green from pixel to pixel.
fn steps(row: &[u8]) -> u32 {
    let green = row[1..].iter().step_by(3);
    green.clone().zip(green.skip(1)).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Greatest factor by which resampling at a place between pixels, along one axis, changes a wave.
    fn gain(f: f32, sharpen: f32) -> f32 {
        let weights = raised(f, sharpen);
        let wave = |step: u8| {
            let frequency = std::f32::consts::PI * f32::from(step) / 90.0;
            let part = |function: fn(f32) -> f32| -> f32 {
                (-1..3_i8).zip(weights).map(|(at, weight)| weight * function(frequency * f32::from(at))).sum()
            };
            part(f32::cos).hypot(part(f32::sin))
        };
        (0..=90).map(wave).fold(0.0, f32::max)
    }

    #[test]
    fn no_wave_in_the_history_grows_without_bound() {
        for weight in [0.1, 0.3, 0.5, 0.72, 0.8, 0.9_f32] {
            let sharpen = most_sharpen(weight).min(0.17);
            let gain = (0..=50).map(|place| gain(place as f32 / 50.0, sharpen)).fold(0.0, f32::max);
            let height = (1.0 - weight) / (1.0 - weight * gain * gain);
            let limit = if sharpen > 0.0 { HIGHEST } else { 2.2 };
            assert!((0.0..limit * 1.02).contains(&height), "weight {weight}: {height}");
        }
    }

    #[test]
    fn on_a_pixel_resampling_changes_nothing() {
        for sharpen in [0.0, 0.1] {
            assert_eq!(raised(0.0, sharpen).map(f32::abs), [0.0, 1.0, 0.0, 0.0]);
            assert_eq!(raised(1.0, sharpen).map(f32::abs), [0.0, 0.0, 1.0, 0.0]);
            let sum: f32 = raised(0.3, sharpen).iter().sum();
            assert!((sum - 1.0).abs() < 1e-6);
        }
    }
}
