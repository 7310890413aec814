//! Where each part of a frame was in the frame before: dense inverse search on luma, from coarse to fine.
//!
//! After Kroeger et al., "Fast Optical Flow using Dense Inverse Search" (2016): overlapping patches of the current
//! frame are looked for in the one before by Gauss-Newton steps whose matrix belongs to the patch alone. What
//! differs: a patch starts from the best of several candidates, is held to its start where it has less structure
//! than the noise, and takes over its neighbours' motion in the same measure.

use super::luma::{BORDER, Plane, Pyramid};
use super::team::Team;

/// Side of a patch, in pixels of its level.
const PATCH: usize = 8;
/// Distance of patches: each is the word on a cell of this side, in its middle.
pub(super) const CELL: usize = 4;
/// Gauss-Newton steps on a level.
const STEPS: usize = 4;
/// How far the coarsest level is searched, in its pixels.
const REACH: isize = 4;
/// Motion that may be noise only, in pixels of the level.
const REST: f32 = 0.25;
/// A step shorter than this, in pixels of the level, is the last.
const SMALL: f32 = 0.02;
/// Pixels a patch may stray from its best candidate.
const STRAY: f32 = 4.0;

type Patch = [[f32; PATCH]; PATCH];
type Vector = [f32; 2];

/// Pixels whose motion [`Field::expand`] gives at a time.
pub(super) const RUN: usize = 64;
/// Their motion across and down, with half a cell more on either side.
pub(super) type Run = [[f32; RUN + 2 * CELL]; 2];

/// Motion of a level's cells: a cell's content was at its place plus `flow` in the frame before.
#[derive(Default)]
pub(super) struct Field {
    columns: usize,
    rows: usize,
    /// In pixels of the level.
    flow: Vec<Vector>,
    /// As found, before neighbours are heard.
    found: Vec<Found>,
}

/// What a search came to.
#[derive(Clone, Copy, Default)]
struct Found {
    flow: Vector,
    /// How firmly the patch holds its motion: the smaller eigenvalue of its structure tensor, less what noise adds.
    firmness: f32,
    /// Mean squared difference that is left.
    misfit: f32,
}

impl Field {
    fn reshape(&mut self, plane: &Plane) {
        (self.columns, self.rows) = (plane.width.div_ceil(CELL), plane.height.div_ceil(CELL));
        self.flow.resize(self.columns * self.rows, [0.0; 2]);
        self.found.resize(self.columns * self.rows, Found::default());
    }

    /// The motion at a place in units of cells, linear between their middles.
    fn at(&self, x: f32, y: f32) -> Vector {
        let (x, y) = (x.clamp(0.0, (self.columns - 1) as f32), y.clamp(0.0, (self.rows - 1) as f32));
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.columns - 1), (top + 1).min(self.rows - 1));
        let (fx, fy) = (x - left as f32, y - top as f32);
        let cell = |x: usize, y: usize| self.flow[y * self.columns + x];
        let mix = |a: Vector, b: Vector, f: f32| [a[0] + f * (b[0] - a[0]), a[1] + f * (b[1] - a[1])];
        mix(mix(cell(left, top), cell(right, top), fx), mix(cell(left, bottom), cell(right, bottom), fx), fy)
    }

    /// The motion of the pixels from (`x`, `y`) on, where a cell has `side` of them: linear between the cells'
    /// middles. `x` is the left of a cell; the first pixel's motion is at index `side / 2`.
    pub(super) fn expand(&self, x: usize, y: usize, side: usize, out: &mut Run) {
        let down = ((y as f32 + 0.5) / side as f32 - 0.5).clamp(0.0, (self.rows - 1) as f32);
        let (top, fraction) = (down as usize, down.fract());
        let rows =
            [top, (top + 1).min(self.rows - 1)].map(|row| &self.flow[row * self.columns..][..self.columns]);
        let cell = |column: usize| {
            // One to the left of the first, which may be the border's.
            let column = (x / side + column).saturating_sub(1).min(self.columns - 1);
            [0, 1].map(|axis| {
                let (above, below) = (rows[0][column][axis], rows[1][column][axis]);
                above + fraction * (below - above)
            })
        };
        let mut left = cell(0);
        for (column, start) in (0..RUN + side).step_by(side).enumerate() {
            let right = cell(column + 1);
            for (axis, out) in out.iter_mut().enumerate() {
                for (i, out) in out[start..start + side].iter_mut().enumerate() {
                    *out = left[axis] + (i as f32 + 0.5) / side as f32 * (right[axis] - left[axis]);
                }
            }
            left = right;
        }
    }

    fn nearest(&self, x: isize, y: isize) -> Vector {
        let (x, y) = (x.clamp(0, self.columns as isize - 1), y.clamp(0, self.rows as isize - 1));
        self.flow[y as usize * self.columns + x as usize]
    }
}

/// Motion at every level, and the room it is found in.
#[derive(Default)]
pub(super) struct Motion {
    fields: Vec<Field>,
}

impl Motion {
    /// The finest level's.
    pub(super) fn finest(&self) -> &Field {
        &self.fields[0]
    }

    pub(super) fn reshape(&mut self, pyramid: &Pyramid) {
        self.fields.resize_with(pyramid.levels.len(), Field::default);
        for (field, plane) in self.fields.iter_mut().zip(&pyramid.levels) {
            field.reshape(plane);
        }
    }

    /// Finds the motion from `before` to `now`. `noise`: expected mean squared difference of equal patches on the
    /// finest level.
    pub(super) fn find(&mut self, now: &Pyramid, before: &Pyramid, noise: f32, team: &mut Team) {
        for level in (0..self.fields.len()).rev() {
            let (finer, coarser) = self.fields.split_at_mut(level + 1);
            let (field, coarser) = (&mut finer[level], coarser.first());
            let search = Search { now: &now.levels[level], before: &before.levels[level], noise, coarser };
            let columns = field.columns;
            team.share(field.found.chunks_mut(columns).enumerate(), |(row, found)| {
                for (column, found) in found.iter_mut().enumerate() {
                    *found = search.cell(column, row);
                }
            });
            let (found, rows) = (&field.found, field.rows);
            team.share(field.flow.chunks_mut(columns).enumerate(), |(row, flow)| {
                for (column, flow) in flow.iter_mut().enumerate() {
                    *flow = agree(found, columns, rows, column, row, noise);
                }
            });
        }
    }
}

/// One level's search.
struct Search<'a> {
    now: &'a Plane,
    before: &'a Plane,
    noise: f32,
    coarser: Option<&'a Field>,
}

/// A patch of the current frame with what its Gauss-Newton steps need.
struct Template {
    x: f32,
    y: f32,
    values: Patch,
    gradient: [Patch; 2],
    /// Structure tensor, the patch's mean gradient taken out: xx, xy, yy.
    tensor: [f32; 3],
}

impl Search<'_> {
    fn cell(&self, column: usize, row: usize) -> Found {
        let template = self.template(column, row);
        let [xx, xy, yy] = template.tensor;
        let spread = ((xx - yy) * (xx - yy) + 4.0 * xy * xy).sqrt();
        // Noise adds its own gradient to the tensor: a quarter of its variance, a half of that of a difference.
        let own = (PATCH * PATCH) as f32 * self.noise / 4.0;
        let firmness = ((xx + yy - spread) / 2.0 - own).max(0.0);
        let start = self.start(&template, column, row);
        let (mut flow, mut misfit) = self.refine(&template, start);
        // Noise moves a patch that stands: two parameters take a 32nd of it away. What no more than four times that
        // speaks for is rest, and a still camera's painting is not resampled.
        if flow != [0.0; 2] && flow[0].abs().max(flow[1].abs()) < REST {
            let standing = self.misfit(&template, [0.0; 2]);
            if standing < misfit + self.noise / 8.0 {
                (flow, misfit) = ([0.0; 2], standing);
            }
        }
        Found { flow, firmness, misfit }
    }

    fn template(&self, column: usize, row: usize) -> Template {
        let corner = |cell: usize| (cell * CELL) as isize - ((PATCH - CELL) / 2) as isize;
        let (x, y) = (corner(column), corner(row));
        let rows: [&[f32; PATCH + 2]; PATCH + 2] =
            std::array::from_fn(|line| self.now.window(x - 1, y - 1 + line as isize));
        let mut values = [[0.0; PATCH]; PATCH];
        let mut gradient = [values; 2];
        let mut sums = [[0.0_f32; PATCH]; 5];
        for line in 0..PATCH {
            let (above, here, below) = (rows[line], rows[line + 1], rows[line + 2]);
            for i in 0..PATCH {
                let (gx, gy) = ((here[i + 2] - here[i]) / 2.0, (below[i + 1] - above[i + 1]) / 2.0);
                values[line][i] = here[i + 1];
                (gradient[0][line][i], gradient[1][line][i]) = (gx, gy);
                sums[0][i] += gx;
                sums[1][i] += gy;
                sums[2][i] += gx * gx;
                sums[3][i] += gx * gy;
                sums[4][i] += gy * gy;
            }
        }
        let [gx, gy, xx, xy, yy] = sums.map(|sum| sum.iter().sum::<f32>());
        let area = (PATCH * PATCH) as f32;
        for (axis, mean) in [gx / area, gy / area].into_iter().enumerate() {
            gradient[axis].iter_mut().flatten().for_each(|value| *value -= mean);
        }
        let tensor = [xx - gx * gx / area, xy - gx * gy / area, yy - gy * gy / area];
        Template { x: x as f32, y: y as f32, values, gradient, tensor }
    }

    /// The best of the places to start from.
    fn start(&self, template: &Template, column: usize, row: usize) -> Vector {
        let twice = |flow: Vector| [2.0 * flow[0], 2.0 * flow[1]];
        let place = |cell: usize| (cell as f32 + 0.5) / 2.0 - 0.5;
        let mut best = self.coarser.map_or([0.0; 2], |coarser| twice(coarser.at(place(column), place(row))));
        let mut least = self.misfit(template, best);
        // A place is left only for one that is better than noise explains.
        let margin = self.noise / 4.0;
        let mut consider = |flow: Vector| {
            // What is nearer than this, the steps reach by themselves.
            if (flow[0] - best[0]).abs().max((flow[1] - best[1]).abs()) > 0.4 {
                let misfit = self.misfit(template, flow);
                if misfit * 1.1 + margin < least {
                    (best, least) = (flow, misfit);
                }
            }
        };
        let Some(coarser) = self.coarser else {
            // From the middle outwards, so that of equals the nearest is taken.
            for reach in 1..=REACH {
                for dy in -reach..=reach {
                    for dx in -reach..=reach {
                        if dx.abs().max(dy.abs()) == reach {
                            consider([dx as f32, dy as f32]);
                        }
                    }
                }
            }
            return best;
        };
        consider([0.0; 2]);
        let (parent_x, parent_y) = ((column / 2) as isize, (row / 2) as isize);
        for (dx, dy) in [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] {
            consider(twice(coarser.nearest(parent_x + dx, parent_y + dy)));
        }
        best
    }

    /// Gauss-Newton steps from a start: the motion and the misfit it leaves.
    fn refine(&self, template: &Template, start: Vector) -> (Vector, f32) {
        // The start counts as much as a patch of two thirds of the noise's own structure.
        let hold = (PATCH * PATCH) as f32 * self.noise / 2.0 + 1.0;
        let [xx, xy, yy] = template.tensor;
        let (xx, yy) = (xx + hold, yy + hold);
        let determinant = xx * yy - xy * xy;
        let (mut flow, mut best) = (start, (start, f32::MAX));
        for step in 0..=STEPS {
            let error = self.difference(template, flow);
            let misfit = spread(&error);
            if misfit < best.1 {
                best = (flow, misfit);
            }
            if step == STEPS || misfit > 1.2 * best.1 {
                break;
            }
            let [along, down] = [0, 1].map(|axis| dot(&template.gradient[axis], &error));
            let (bx, by) = (along + hold * (flow[0] - start[0]), down + hold * (flow[1] - start[1]));
            let (dx, dy) = ((yy * bx - xy * by) / determinant, (xx * by - xy * bx) / determinant);
            flow = [flow[0] - dx, flow[1] - dy];
            let strayed = (flow[0] - start[0]).abs().max((flow[1] - start[1]).abs());
            if strayed > STRAY || dx * dx + dy * dy < SMALL * SMALL {
                break;
            }
        }
        best
    }

    fn misfit(&self, template: &Template, flow: Vector) -> f32 {
        spread(&self.difference(template, flow))
    }

    /// The frame before, seen along a motion, less the template.
    fn difference(&self, template: &Template, flow: Vector) -> Patch {
        let limit = |at: f32, side: usize| {
            let border = BORDER as f32;
            at.clamp(-border, side as f32 + border - (PATCH + 2) as f32)
        };
        let x = limit(template.x + flow[0], self.before.width);
        let y = limit(template.y + flow[1], self.before.height);
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let across = |line: usize| -> [f32; PATCH] {
            let row: &[f32; PATCH + 1] = self.before.window(left as isize, top as isize + line as isize);
            std::array::from_fn(|i| row[i] + fx * (row[i + 1] - row[i]))
        };
        let mut above = across(0);
        let mut error = [[0.0; PATCH]; PATCH];
        for (line, (error, values)) in error.iter_mut().zip(&template.values).enumerate() {
            let below = across(line + 1);
            for i in 0..PATCH {
                error[i] = above[i] + fy * (below[i] - above[i]) - values[i];
            }
            above = below;
        }
        error
    }
}

fn dot(a: &Patch, b: &Patch) -> f32 {
    let mut sums = [0.0; PATCH];
    for line in 0..PATCH {
        for i in 0..PATCH {
            sums[i] += a[line][i] * b[line][i];
        }
    }
    sums.iter().sum()
}

/// Variance of a patch's values: their mean square without what a change of light explains.
fn spread(error: &Patch) -> f32 {
    let (mut sums, mut squares) = ([0.0_f32; PATCH], [0.0_f32; PATCH]);
    for line in error {
        for i in 0..PATCH {
            sums[i] += line[i];
            squares[i] += line[i] * line[i];
        }
    }
    let area = (PATCH * PATCH) as f32;
    let mean = sums.iter().sum::<f32>() / area;
    (squares.iter().sum::<f32>() / area - mean * mean).max(0.0)
}

/// A cell's motion after hearing its neighbours: each counts by its firmness and fit, and the less the more it
/// differs from a cell that is firm itself.
fn agree(found: &[Found], columns: usize, rows: usize, column: usize, row: usize, noise: f32) -> Vector {
    let own = found[row * columns + column];
    let floor = (PATCH * PATCH) as f32 * noise / 16.0 + 1.0;
    let (mut sum, mut weights) = ([0.0_f32; 2], 0.0_f32);
    for y in row.saturating_sub(1)..(row + 2).min(rows) {
        for x in column.saturating_sub(1)..(column + 2).min(columns) {
            let other = found[y * columns + x];
            let (dx, dy) = (other.flow[0] - own.flow[0], other.flow[1] - own.flow[1]);
            let apart = (dx * dx + dy * dy) * own.firmness / (noise + 0.5);
            let weight = (other.firmness + floor) / ((1.0 + other.misfit / (noise + 0.5)) * (1.0 + apart));
            sum = [sum[0] + weight * other.flow[0], sum[1] + weight * other.flow[1]];
            weights += weight;
        }
    }
    [sum[0] / weights, sum[1] / weights]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    /// A scene seen from a place: waves of 9 to 70 pixels, and a part of it without structure.
    fn pyramid(team: &mut Team, at: Vector) -> Pyramid {
        let (width, height) = (320, 240);
        let value = |pixel: usize| {
            let (x, y) = ((pixel % width) as f32 + at[0], (pixel / width) as f32 + at[1]);
            let plain = (x - 150.0).hypot(y - 100.0) < 20.0;
            // Directions a golden angle apart, so that no pattern comes again.
            let wave = |i: i32| {
                let ((sin, cos), length) = ((2.4 * i as f32).sin_cos(), 9.0 * 1.17_f32.powi(i));
                (std::f32::consts::TAU * (cos * x + sin * y) / length + i as f32).sin()
            };
            let sum: f32 = (0..14).map(wave).sum();
            if plain { 128 } else { (128.0 + 15.0 * sum) as u8 }
        };
        let rgb = (0..width * height).flat_map(|pixel| [value(pixel); 3]).collect();
        let frame = Frame::new(width, height, rgb).expect("a frame");
        let mut pyramid = Pyramid::default();
        pyramid.reshape(width, height);
        pyramid.take(&frame, team);
        pyramid
    }

    #[test]
    fn motion_is_found_to_a_fraction_of_a_pixel_even_where_nothing_shows_it() {
        let mut team = Team::new(2);
        let before = pyramid(&mut team, [0.0; 2]);
        for moved in [[0.0, 0.0], [0.3, -0.2], [3.4, -1.3], [-11.0, 6.5], [23.6, 9.1]] {
            let now = pyramid(&mut team, moved);
            let mut motion = Motion::default();
            motion.reshape(&now);
            motion.find(&now, &before, 1.0, &mut team);
            let field = motion.finest();
            // Away from the borders, over which something has come in.
            let (mut far, mut count) = (0, 0);
            for y in 5..field.rows - 5 {
                for x in 5..field.columns - 5 {
                    let flow = field.flow[y * field.columns + x];
                    let error = [0, 1].map(|axis| 2.0 * flow[axis] - moved[axis]);
                    far += usize::from(error[0].hypot(error[1]) > 0.3);
                    count += 1;
                }
            }
            assert!(far * 50 < count, "{moved:?}: {far} of {count} cells are off");
        }
    }
}
