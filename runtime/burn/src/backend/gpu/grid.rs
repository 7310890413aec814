//! How a picture's pixels and channels are dealt to the units of a GPU.
//!
//! A cube has lanes along the channels, so that neighbours read neighbouring memory (a pixel's channels lie side by
//! side), and rows along the pixels; it takes one run of pixels of one picture.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube.
const UNITS: usize = 128;
/// Cubes that keep a large card busy: several for every multiprocessor.
const BUSY_CUBES: usize = 1024;
/// Cubes along an axis that every GPU takes.
const MAX_CUBES: usize = 32_768;

/// A picture batch's sizes, channels last: `[batch, height, width, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Extent {
    pub fn of<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Self {
        let [batch, height, width, channels] = tensor.meta.shape().dims();
        Extent { batch, height, width, channels }
    }

    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

/// The deal.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    /// Values of a vector.
    pub vector: usize,
    /// Units along the channels.
    pub lanes: usize,
    /// Units along the pixels, a power of two.
    pub rows: usize,
    /// Cubes along the channels.
    blocks: usize,
    /// Runs of pixels.
    pub runs: usize,
    /// Pixels of a run.
    pub run: usize,
    batch: usize,
}

impl Grid {
    /// For work on every pixel by itself.
    pub fn mapping(size: Extent, vector: usize) -> Self {
        let mut grid = Self::with_one_run(size, vector);
        // What belongs to a channel is read once for all pixels that a unit takes: several, where there are so many
        // that every multiprocessor still has work.
        let runs = |each: usize| size.pixels().div_ceil(each * grid.rows);
        let busy = |each: &usize| runs(*each) * size.batch * grid.blocks >= BUSY_CUBES;
        let each = [8, 4, 2].into_iter().find(busy).unwrap_or(1);
        grid.run = (each * grid.rows).max(size.pixels().div_ceil(MAX_CUBES));
        grid.runs = size.pixels().div_ceil(grid.run);
        grid
    }

    /// For sums over the pixels.
    pub fn summing(size: Extent, vector: usize) -> Self {
        let mut grid = Self::with_one_run(size, vector);
        let most = (BUSY_CUBES / (size.batch * grid.blocks)).max(1);
        let runs = (size.pixels() / (8 * grid.rows)).clamp(1, most);
        grid.run = size.pixels().div_ceil(runs);
        grid.runs = size.pixels().div_ceil(grid.run);
        grid
    }

    fn with_one_run(size: Extent, vector: usize) -> Self {
        let groups = size.channels / vector;
        let lanes = groups.min(32);
        let most = UNITS / lanes;
        let rows = 1 << most.ilog2();
        let blocks = groups.div_ceil(lanes);
        Grid { vector, lanes, rows, blocks, runs: 1, run: size.pixels(), batch: size.batch }
    }

    pub fn count(&self) -> CubeCount {
        CubeCount::new_3d(self.runs as u32, self.blocks as u32, self.batch as u32)
    }

    pub fn units(&self) -> CubeDim {
        CubeDim::new_2d(self.lanes as u32, self.rows as u32)
    }
}

/// Units of a cube that takes work as it comes, without regard to channels.
pub(super) const LINE: u32 = 256;

/// Cubes of so many units for `work` of one unit each; what is beyond is to be left out.
pub(super) fn cubes(work: usize) -> CubeCount {
    let (cubes, most) = ((work as u32).div_ceil(LINE), MAX_CUBES as u32);
    CubeCount::new_2d(cubes.min(most), cubes.div_ceil(most))
}

/// The longest vector along the channels in which all these tensors, channels last, can be read.
pub(super) fn vector<R: CubeRuntime>(tensors: &[&CubeTensor<R>]) -> usize {
    let fits = |tensor: &CubeTensor<R>, vector: usize| {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        strides[3] == 1
            && shape[3].is_multiple_of(vector)
            && (0..3).all(|axis| shape[axis] == 1 || strides[axis].is_multiple_of(vector))
            && tensor.client.io_optimized_vector_sizes(tensor.dtype.size()).any(|size| size == vector)
    };
    [8, 4, 2].into_iter().find(|&vector| tensors.iter().all(|tensor| fits(tensor, vector))).unwrap_or(1)
}

/// Pixels `first..last` of this cube's run.
#[cube]
pub(super) fn run_of(pixels: u32, run: u32) -> (u32, u32) {
    let first = CUBE_POS_X * run;
    let mut last = first + run;
    if last > pixels {
        last = pixels;
    }
    (first, last)
}
