//! Luma at half a frame's size and smaller, with borders: what motion is looked for in.

use crate::frame::Frame;

use super::team::Team;

/// Pixels repeated beyond each side, so that searches need not stop at the border.
pub(super) const BORDER: usize = 16;
/// Below this shorter side no smaller level is made.
const SMALLEST: usize = 24;
/// Rows that a thread takes at a time.
const BAND: usize = 8;

/// A plane of luma in 255ths.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    stride: usize,
    data: Vec<f32>,
}

impl Plane {
    fn reshape(&mut self, width: usize, height: usize) {
        (self.width, self.height, self.stride) = (width, height, width + 2 * BORDER);
        self.data.resize(self.stride * (height + 2 * BORDER), 0.0);
    }

    /// Values from (`x`, `y`) on to the row's end with its border; both reach from −[`BORDER`] on.
    pub(super) fn from(&self, x: isize, y: isize) -> &[f32] {
        let border = BORDER as isize;
        let row = (y + border) as usize * self.stride;
        &self.data[row + (x + border) as usize..row + self.stride]
    }

    /// The `N` values from (`x`, `y`) on, border included.
    pub(super) fn window<const N: usize>(&self, x: isize, y: isize) -> &[f32; N] {
        self.from(x, y).first_chunk().expect("the border is wider than a window")
    }

    /// Fills the rows, then the border around them.
    fn fill(&mut self, team: &mut Team, row: impl Fn(usize, &mut [f32]) + Sync) {
        let (width, stride) = (self.width, self.stride);
        let inner = &mut self.data[BORDER * stride..(BORDER + self.height) * stride];
        team.share(inner.chunks_mut(BAND * stride).enumerate(), |(band, rows)| {
            for (line, padded) in rows.chunks_exact_mut(stride).enumerate() {
                row(band * BAND + line, &mut padded[BORDER..BORDER + width]);
                let (first, last) = (padded[BORDER], padded[BORDER + width - 1]);
                padded[..BORDER].fill(first);
                padded[BORDER + width..].fill(last);
            }
        });
        for border in 0..BORDER {
            let first = BORDER * stride;
            self.data.copy_within(first..first + stride, border * stride);
            let last = (BORDER + self.height - 1) * stride;
            self.data.copy_within(last..last + stride, (BORDER + self.height + border) * stride);
        }
    }
}

/// Planes from half a frame's size down, each half of the one before.
#[derive(Default)]
pub(super) struct Pyramid {
    pub(super) levels: Vec<Plane>,
}

impl Pyramid {
    /// Makes room for a frame of this size.
    pub(super) fn reshape(&mut self, width: usize, height: usize) {
        let (mut width, mut height) = (width.div_ceil(2), height.div_ceil(2));
        let mut count = 0;
        loop {
            if self.levels.len() == count {
                self.levels.push(Plane::default());
            }
            self.levels[count].reshape(width, height);
            count += 1;
            if width.min(height) < 2 * SMALLEST {
                break;
            }
            (width, height) = (width / 2, height / 2);
        }
        self.levels.truncate(count);
    }

    /// Takes a frame's luma, `(r + 2·g + b) / 4`: near enough to Rec. 601, and quick. Each level is the one before
    /// under the binomial `1 3 3 1` both ways: a plain mean of four lets fine texture through as a pattern that does
    /// not move with the picture.
    pub(super) fn take(&mut self, frame: &Frame, team: &mut Team) {
        let (width, height, rgb) = (frame.width(), frame.height(), frame.rgb());
        self.levels[0].fill(team, |y, out| {
            let line = |y: usize| &rgb[y.min(height - 1) * width * 3..][..width * 3];
            let lines = [(2 * y).saturating_sub(1), 2 * y, 2 * y + 1, 2 * y + 2].map(line);
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                half(&lines, block * BLOCK * 2, width, out);
            }
        });
        for level in 1..self.levels.len() {
            let (finer, coarser) = self.levels.split_at_mut(level);
            let finer = &finer[level - 1];
            coarser[0].fill(team, |y, out| {
                let y = 2 * y as isize;
                let rows = [-1, 0, 1, 2].map(|row| finer.from(-1, y + row));
                for (x, out) in out.iter_mut().enumerate() {
                    let column = |i: usize| {
                        let i = 2 * x + i;
                        rows[0][i] + rows[3][i] + 3.0 * (rows[1][i] + rows[2][i])
                    };
                    *out = (column(0) + column(3) + 3.0 * (column(1) + column(2))) / 64.0;
                }
            });
        }
    }
}

/// Pixels of a row that are made at a time.
const BLOCK: usize = 64;

/// Half-size luma of a block that begins at pixel `start` of four lines.
fn half(lines: &[&[u8]; 4], start: usize, width: usize, out: &mut [f32]) {
    // From the pixel before the block to the one behind it, the frame's border repeated.
    let mut columns = [0_u16; (2 * BLOCK + 2) * 3];
    let first = start.saturating_sub(1);
    let end = (start + 2 * out.len() + 1).min(width);
    let skip = (first + 1 - start) * 3;
    let bytes = first * 3..end * 3;
    let [a, b, c, d] = lines.map(|line| &line[bytes.clone()]);
    for (i, column) in columns[skip..].iter_mut().zip(0..bytes.len()).map(|(column, i)| (i, column)) {
        *column = u16::from(a[i]) + u16::from(d[i]) + 3 * (u16::from(b[i]) + u16::from(c[i]));
    }
    columns.copy_within(skip..skip + 3, 0);
    for behind in (skip + bytes.len()) / 3..2 * out.len() + 2 {
        columns.copy_within(behind * 3 - 3..behind * 3, behind * 3);
    }
    let luma = |x: usize| columns[3 * x] + 2 * columns[3 * x + 1] + columns[3 * x + 2];
    for (x, out) in out.iter_mut().enumerate() {
        let sum = luma(2 * x) + luma(2 * x + 3) + 3 * (luma(2 * x + 1) + luma(2 * x + 2));
        *out = f32::from(sum) / 256.0;
    }
}
