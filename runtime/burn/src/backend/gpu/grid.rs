//! How a picture's pixels and channels are dealt to the units of a GPU.
//!
//! A cube has lanes along the channels, so that neighbours read neighbouring memory (a pixel's channels lie side by
//! side), and rows along the pixels; it takes one run of pixels of one picture.

use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;

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

    /// What the kernels are told of it.
    pub fn deal<R: CubeRuntime>(&self, size: Extent) -> DealLaunch<R> {
        let [width, pixels, run] = [size.width, size.pixels(), self.run].map(|count| count as u32);
        DealLaunch::new(width, pixels, run, self.lanes, self.rows)
    }
}

/// The deal as a unit sees it.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Deal {
    width: FastDivmod<u32>,
    pixels: u32,
    run: u32,
    #[cube(comptime)]
    pub lanes: usize,
    #[cube(comptime)]
    pub rows: usize,
}

#[cube]
impl Deal {
    /// This unit's picture of the batch.
    pub fn picture(&self) -> usize {
        CUBE_POS_Z as usize
    }

    /// The first of this unit's channels, of which a vector holds so many. It may lie beyond the last.
    pub fn channel(&self, vector: usize) -> usize {
        (CUBE_POS_Y as usize * self.lanes + UNIT_POS_X as usize) * vector
    }

    /// The first of this unit's pixels and the end of its cube's run: it takes every `rows`th of them.
    pub fn pixels(&self) -> (u32, u32) {
        let first = CUBE_POS_X * self.run;
        let mut end = first + self.run;
        if end > self.pixels {
            end = self.pixels;
        }
        (first + UNIT_POS_Y, end)
    }

    /// A pixel's row and column.
    pub fn place(&self, pixel: u32) -> (u32, u32) {
        self.width.div_mod(pixel)
    }
}

/// The index of the vector that begins with this channel of a pixel.
#[cube]
pub(super) fn index<E: CubePrimitive>(
    tensor: &Tensor<E>,
    picture: usize,
    y: u32,
    x: u32,
    channel: usize,
) -> usize {
    let at = picture * tensor.stride(0)
        + y as usize * tensor.stride(1)
        + x as usize * tensor.stride(2)
        + channel * tensor.stride(3);
    at / tensor.vector_size()
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
