//! How far each place of a frame is what the motion says it was: the source seen along the motion, compared.

use super::luma::Plane;
use super::motion::{CELL, Field, RUN};
use super::team::Team;

/// Rows that a thread takes at a time.
const BAND: usize = 8;
/// Mean squared difference, in units of what noise explains, up to which a place is trusted wholly.
const WHOLE: f32 = 2.0;
/// And from which on it is not trusted at all.
const NONE: f32 = 5.0;
/// Error of a motion that is no disagreement, in pixels of the plane.
const SLACK: f32 = 0.2;

/// Trust in every pixel of half a frame's size.
#[derive(Default)]
pub(super) struct Trust {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 0: another thing than before, 1: the same.
    pub(super) values: Vec<f32>,
    /// Squared difference from the source seen along the motion.
    squares: Vec<f32>,
}

impl Trust {
    pub(super) fn reshape(&mut self, plane: &Plane) {
        (self.width, self.height) = (plane.width, plane.height);
        self.values.resize(plane.width * plane.height, 0.0);
        self.squares.resize(plane.width * plane.height, 0.0);
    }

    /// Compares. Returns the mean squared difference of equal places, which is noise; `usual`: what it was before.
    pub(super) fn compare(
        &mut self,
        now: &Plane,
        before: &Plane,
        field: &Field,
        usual: f32,
        team: &mut Team,
    ) -> f32 {
        let (width, height) = (self.width, self.height);
        team.share(self.squares.chunks_mut(BAND * width).enumerate(), |(band, rows)| {
            for (line, out) in rows.chunks_exact_mut(width).enumerate() {
                let y = band * BAND + line;
                for (run, out) in out.chunks_mut(RUN).enumerate() {
                    squares(now, before, field, run * RUN, y, out);
                }
            }
        });
        // A camera's noise does not leap, but a cut makes everything differ.
        let noise = self.noise().clamp(0.1, 16.0).min(2.0 * usual);
        let squares = &self.squares;
        team.share(self.values.chunks_mut(BAND * width).enumerate(), |(band, rows)| {
            for (line, out) in rows.chunks_exact_mut(width).enumerate() {
                let y = band * BAND + line;
                let near = |y: usize| &squares[y * width..][..width];
                let rows = [near(y.saturating_sub(1)), near(y), near((y + 1).min(height - 1))];
                let here = now.from(-1, y as isize);
                let (above, below) = (now.from(0, y as isize - 1), now.from(0, y as isize + 1));
                for (x, out) in out.iter_mut().enumerate() {
                    let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
                    let sum: f32 = rows.iter().map(|row| row[left] + row[x] + row[right]).sum();
                    let (gx, gy) = ((here[x + 2] - here[x]) / 2.0, (below[x] - above[x]) / 2.0);
                    let expected = noise + SLACK * SLACK * (gx * gx + gy * gy);
                    *out = ((NONE - sum / 9.0 / expected) / (NONE - WHOLE)).clamp(0.0, 1.0);
                }
            }
        });
        noise
    }

    /// Mean squared difference that noise makes, by the calmest quarter of places.
    fn noise(&self) -> f32 {
        let mut bins = [0_usize; 128];
        let mut count = 0;
        for rows in self.squares.chunks_exact(3 * self.width) {
            for x in (0..self.width.saturating_sub(2)).step_by(3) {
                let sum: f32 = (0..9).map(|i| rows[i / 3 * self.width + x + i % 3]).sum();
                // Eight bins an octave, from 1/256 on.
                let bin = ((sum / 9.0).clamp(1.0 / 256.0, 255.0).log2() + 8.0) * 8.0;
                bins[bin as usize] += 1;
                count += 1;
            }
        }
        let mut left = count / 4;
        for (bin, &here) in bins.iter().enumerate() {
            if left < here {
                // The lower quartile of a mean of nine squares is 0.66 of what it is on the average.
                return ((bin as f32 + 0.5) / 8.0 - 8.0).exp2() / 0.66;
            }
            left -= here;
        }
        1.0
    }

    /// Trust in the pixels from (`x`, `y`) on of a frame of full size, linear between the plane's.
    pub(super) fn expand(&self, x: usize, y: usize) -> [f32; RUN] {
        // The middle of a pixel lies a quarter from its plane pixel's middle, towards its other neighbour.
        let near = |at: usize, side: usize| {
            let own = (at / 2).min(side - 1);
            (own, if at.is_multiple_of(2) { own.saturating_sub(1) } else { (own + 1).min(side - 1) })
        };
        let (own, other) = near(y, self.height);
        let rows = [own, other].map(|row| &self.values[row * self.width..][..self.width]);
        let mut column = [0.0; RUN / 2 + 2];
        for (i, out) in column.iter_mut().enumerate() {
            let at = (x / 2 + i).saturating_sub(1).min(self.width - 1);
            *out = 0.75 * rows[0][at] + 0.25 * rows[1][at];
        }
        let mut trust = [0.0; RUN];
        for (i, pair) in trust.chunks_exact_mut(2).enumerate() {
            let own = 0.75 * column[i + 1];
            (pair[0], pair[1]) = (own + 0.25 * column[i], own + 0.25 * column[i + 2]);
        }
        trust
    }

    /// Share of the pixels that are not trusted.
    pub(super) fn lost(&self) -> f32 {
        let lost = self.values.iter().filter(|&&value| value < 0.1).count();
        lost as f32 / self.values.len() as f32
    }
}

/// Squared differences of a row's pixels from (`x`, `y`) on.
fn squares(now: &Plane, before: &Plane, field: &Field, x: usize, y: usize, out: &mut [f32]) {
    let mut flow = [[0.0; _]; 2];
    field.expand(x, y, CELL, &mut flow);
    let [across, down] = flow.each_ref().map(|flow| &flow[CELL / 2..]);
    let here = now.from(x as isize, y as isize);
    let (right, bottom) = (before.width as f32 - 0.5, before.height as f32 - 0.5);
    for (i, out) in out.iter_mut().enumerate() {
        let (from_x, from_y) = ((x + i) as f32 + across[i], y as f32 + down[i]);
        // A place beyond the border has never been painted.
        let inside = from_x > -0.5 && from_x < right && from_y > -0.5 && from_y < bottom;
        let difference = if inside { here[i] - sample(before, from_x, from_y) } else { f32::INFINITY };
        *out = difference * difference;
    }
}

/// Weights of the pixels at −1, 0, 1 and 2 for a place between 0 and 1: Keys' cubic with the slope that keeps most
/// of fine detail.
pub(super) fn cubic(f: f32) -> [f32; 4] {
    const SLOPE: f32 = -0.75;
    let (f2, f3) = (f * f, f * f * f);
    [
        SLOPE * (f3 - 2.0 * f2 + f),
        (SLOPE + 2.0) * f3 - (SLOPE + 3.0) * f2 + 1.0,
        -(SLOPE + 2.0) * f3 + (2.0 * SLOPE + 3.0) * f2 - SLOPE * f,
        SLOPE * (f2 - f3),
    ]
}

/// A number's whole part and what is left of it, for numbers below 2²¹; a whole number may come out as the one
/// below it and 1. Two additions, where a cast that saturates would keep loops from being vectorized.
pub(super) fn floor(x: f32) -> (i32, f32) {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³
    let shifted = (x - 0.5) + MAGIC;
    (shifted.to_bits() as i32 - MAGIC.to_bits() as i32, x - (shifted - MAGIC))
}

/// The smaller; either, where one is no number.
pub(super) fn least(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// A number held between two.
pub(super) fn within(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    least(x, high)
}

/// A plane between its pixels, at a place not beyond its border.
fn sample(plane: &Plane, x: f32, y: f32) -> f32 {
    let ((left, fx), (top, fy)) = (floor(x), floor(y));
    let (across, down) = (cubic(fx), cubic(fy));
    let mut columns = [0.0; 4];
    for (line, weight) in down.iter().enumerate() {
        let row: &[f32; 4] = plane.window(left as isize - 1, top as isize - 1 + line as isize);
        columns.iter_mut().zip(row).for_each(|(column, value)| *column += weight * value);
    }
    columns.iter().zip(&across).map(|(column, weight)| column * weight).sum()
}
