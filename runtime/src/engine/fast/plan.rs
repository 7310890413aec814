//! The program laid out for one size of frame: shapes, where planes lie, how stages are cut, what a worker needs.

use super::direct::{Direct, MAX_KERNEL};
use super::grid::Grid;
use super::kernels::SumPieces;
use super::program::{Kernel, Program, Source, Target};
use super::winograd::{PATCH, REACH};
use crate::engine::Tile;

/// What one worker's buffers may take of the second-level cache, roughly: rows of prepared pixels, Winograd's
/// transformed inputs.
const CACHE: usize = 384 << 10;

/// What all planes together may take of memory under [`Tile::Auto`]; the rest goes to a scratch file.
const PLANE_MEMORY: usize = 768 << 20;

/// Layout of a frame.
pub(super) struct Plan {
    /// What the network sees: the frame's size, or the smallest there is.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) stages: Vec<StagePlan>,
    pub(super) planes: Vec<PlanePlan>,
    /// Bytes of all planes together.
    pub(super) plane_bytes: usize,
    /// Bytes of them that are kept in memory.
    pub(super) memory: usize,
    /// Whether the rest is in a scratch file.
    pub(super) spilled: bool,
    /// What a worker needs.
    pub(super) worker: WorkerPlan,
    /// Entries of the table of moments.
    pub(super) moments: usize,
}

/// Layout of a stage.
pub(super) struct StagePlan {
    /// Size of what it reads.
    pub(super) source: (usize, usize),
    pub(super) grid: Grid,
    /// Prepared rows that are kept.
    pub(super) ring_rows: usize,
    /// Bytes of a prepared row.
    pub(super) ring_row: usize,
    /// Multiply-adds of a task, as the network defines them (Winograd does fewer).
    pub(super) task_work: u64,
}

/// Layout of a plane.
#[derive(Clone, Copy, Default)]
pub(super) struct PlanePlan {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Bytes of a pixel.
    pub(super) pixel: usize,
    /// Where it begins.
    pub(super) offset: usize,
}

impl PlanePlan {
    pub(super) fn bytes(&self) -> usize {
        self.height * self.width * self.pixel
    }

    /// Where a piece of a row begins, and its bytes.
    pub(super) fn piece(&self, y: usize, x: usize, pixels: usize) -> (usize, usize) {
        assert!(y < self.height && x + pixels <= self.width, "within the plane");
        (self.offset + (y * self.width + x) * self.pixel, pixels * self.pixel)
    }
}

/// Bytes of a worker's buffers.
#[derive(Default)]
pub(super) struct WorkerPlan {
    pub(super) ring: usize,
    pub(super) out: usize,
    pub(super) input: usize,
    pub(super) products: usize,
    pub(super) sums: usize,
    pub(super) colors: usize,
    pub(super) single: usize,
    /// Pieces of rows on their way from and to a scratch file; 0 without one.
    pub(super) source: usize,
    pub(super) stored: usize,
    pub(super) channels: usize,
}

impl Plan {
    pub(super) fn new(program: &Program, height: usize, width: usize, tile: Tile) -> Self {
        let band = match tile {
            Tile::Rows(rows) => Some(rows),
            Tile::Auto | Tile::Off => None,
        };
        let mut planes = vec![PlanePlan::default(); program.planes.len()];
        let mut worker = WorkerPlan::default();
        let mut stages = Vec::with_capacity(program.stages.len());
        let mut moments = 0;
        for stage in &program.stages {
            let source = match stage.source {
                Source::Frame => (height, width),
                Source::Plane { raw, .. } => (planes[raw].height, planes[raw].width),
            };
            let (axis, up) = (&stage.axis, stage.axis.up());
            let bases = (axis.bases(source.0), axis.bases(source.1));
            let pixel = stage.inputs * stage.prepared.bytes();
            let mut set = |plane: usize, (height, width): (usize, usize)| {
                let spec = &program.planes[plane];
                planes[plane] =
                    PlanePlan { height, width, pixel: spec.channels * spec.store.bytes(), offset: 0 };
            };
            if let Some(keep) = stage.keep {
                set(keep, source);
            }
            let channels = match stage.target {
                Target::Plane { plane, .. } | Target::Colors { plane, .. } => {
                    set(plane, (bases.0 * up, bases.1 * up));
                    program.planes[plane].channels
                }
                Target::Frame => 0,
            };
            let grid_of = |unit, widest| Grid::new(bases.0, bases.1, unit, widest, band);
            // Patches of a strip, given the bytes that each takes.
            let patches = |bytes: usize| (CACHE / bytes).clamp(4, 64) * PATCH;
            let (grid, ring_rows) = match &stage.kernel {
                Kernel::Winograd(_) | Kernel::Colors(_) => {
                    (grid_of(PATCH, patches(REACH * REACH * stage.inputs * 4)), REACH)
                }
                Kernel::Decomposed(kernel) => {
                    (grid_of(PATCH, patches(kernel.input_floats(64) * 4 / 64)), kernel.reach())
                }
                Kernel::Direct(_) | Kernel::Columns { .. } => {
                    let rows = axis.reach();
                    (grid_of(1, (CACHE / (rows * pixel * axis.stride())).max(64)), rows)
                }
            };
            let columns = stage.columns(grid.widest());
            // Some values more, for tiles that read past the end; and not a power of two from row to row.
            let ring_row = (columns * pixel + Direct::OVERRUN).next_multiple_of(64) + 64;
            worker.ring = worker.ring.max(ring_rows * ring_row);
            if axis.is_doubled() {
                worker.single = worker.single.max((columns / 2 + 3) * pixel);
            }
            worker.channels = worker.channels.max(channels);
            let widest = grid.widest();
            match &stage.kernel {
                Kernel::Winograd(winograd) => {
                    let patches = widest.div_ceil(PATCH);
                    worker.input = worker.input.max(4 * winograd.input_floats(patches));
                    worker.products = worker.products.max(4 * winograd.product_floats(patches));
                    let pixels = PATCH * up * patches * PATCH * up;
                    worker.out = worker.out.max(4 * pixels * stage.outputs);
                }
                Kernel::Direct(_) => {
                    worker.out = worker.out.max(4 * widest * stage.outputs);
                }
                Kernel::Decomposed(kernel) => {
                    let patches = widest.div_ceil(PATCH);
                    worker.input = worker.input.max(4 * kernel.input_floats(patches));
                    worker.products = worker.products.max(4 * kernel.product_floats(patches));
                    worker.out = worker.out.max(4 * PATCH * patches * PATCH * stage.outputs);
                }
                Kernel::Colors(kernel) => {
                    let patches = kernel.patches(widest);
                    worker.input = worker.input.max(4 * kernel.winograd.input_floats(patches));
                    worker.products = worker.products.max(4 * kernel.winograd.product_floats(patches));
                    let results = PATCH * patches * PATCH * kernel.outputs;
                    worker.out = worker.out.max(4 * (results + SumPieces::OVERRUN));
                    worker.sums = worker.sums.max(4 * kernel.sum_floats(widest));
                    worker.colors = worker.colors.max(4 * (3 * widest + 4));
                }
                Kernel::Columns { direct, taps, .. } => {
                    let pixels = widest + taps - 1;
                    worker.out = worker.out.max(4 * (pixels * direct.outputs() + MAX_KERNEL));
                    worker.colors = worker.colors.max(4 * (3 * widest + 4));
                }
            }
            moments = moments.max(grid.tasks() * 2 * channels);
            // A row's piece has at most as many source columns as prepared ones, a few more at the border.
            worker.source = worker.source.max((columns + 2 * MAX_KERNEL) * 4 * stage.inputs);
            worker.stored = worker.stored.max(widest * up * 4 * stage.outputs.max(stage.inputs));
            let taps: usize = axis.phases.iter().map(|phase| phase.taps.iter().flatten().count()).sum();
            let work = bases.0 * bases.1 * taps * taps * stage.inputs * stage.outputs;
            let task_work = (work / grid.tasks()) as u64;
            stages.push(StagePlan { source, grid, ring_rows, ring_row, task_work });
        }
        // What an output norm reads: rows of colours.
        worker.source = worker.source.max(12 * width);
        let plane_bytes = place(program, &mut planes);
        let memory = match tile {
            Tile::Auto => plane_bytes.min(PLANE_MEMORY),
            Tile::Rows(_) => 0,
            Tile::Off => plane_bytes,
        };
        let spilled = memory < plane_bytes;
        if !spilled {
            (worker.source, worker.stored) = (0, 0);
        }
        Plan { height, width, stages, planes, plane_bytes, memory, spilled, worker, moments }
    }
}

/// Gives each plane a place in which no plane lies that lives at the same time; returns the bytes needed.
fn place(program: &Program, planes: &mut [PlanePlan]) -> usize {
    let mut largest_first: Vec<_> = (0..planes.len()).collect();
    largest_first.sort_by_key(|&plane| std::cmp::Reverse(planes[plane].bytes()));
    let mut placed: Vec<usize> = Vec::new();
    let mut end = 0;
    for plane in largest_first {
        let bytes = planes[plane].bytes().next_multiple_of(64);
        let live = program.planes[plane].live;
        let mut taken: Vec<_> = placed
            .iter()
            .filter(|&&other| {
                let other = program.planes[other].live;
                live.0 <= other.1 && other.0 <= live.1
            })
            .map(|&other| (planes[other].offset, planes[other].bytes().next_multiple_of(64)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, length) in taken {
            if offset + bytes <= start {
                break;
            }
            offset = offset.max(start + length);
        }
        planes[plane].offset = offset;
        placed.push(plane);
        end = end.max(offset + bytes);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Isa;
    use crate::engine::fast::kernels;
    use impasto_checkpoints::{Architecture, StyleModel};

    #[test]
    fn planes_that_live_together_lie_apart_and_little_is_wasted() {
        let Some(kernels) = kernels::of(Isa::best()) else { return };
        let model = StyleModel::random(Architecture::johnson(16).unwrap(), 1).unwrap();
        let program = Program::new(&model, kernels, false).unwrap();
        let plan = Plan::new(&program, 480, 640, Tile::Auto);
        for (i, a) in plan.planes.iter().enumerate() {
            for (j, b) in plan.planes.iter().enumerate().skip(i + 1) {
                let (live, other) = (program.planes[i].live, program.planes[j].live);
                if live.0 <= other.1 && other.0 <= live.1 {
                    assert!(a.offset + a.bytes() <= b.offset || b.offset + b.bytes() <= a.offset);
                }
            }
            assert!(a.offset + a.bytes() <= plan.plane_bytes);
        }
        // The two largest that meet: the first layer's and the first halving's result.
        assert_eq!(plan.plane_bytes, (640 * 480 * 16 + 320 * 240 * 32) * 4);
    }

    #[test]
    fn planes_go_to_a_file_when_they_take_too_much_or_are_told_to() {
        let Some(kernels) = kernels::of(Isa::best()) else { return };
        let model = StyleModel::random(Architecture::johnson(16).unwrap(), 1).unwrap();
        let program = Program::new(&model, kernels, false).unwrap();
        // 96 bytes a pixel: 768 MiB are 8.4 megapixels.
        for (height, width, tile, spilled) in [
            (2048, 4096, Tile::Auto, false),
            (2052, 4096, Tile::Auto, true),
            (9000, 12000, Tile::Auto, true),
            (9000, 12000, Tile::Off, false),
            (8, 8, Tile::Rows(4), true),
        ] {
            let plan = Plan::new(&program, height, width, tile);
            assert_eq!(plan.spilled, spilled, "{width}×{height} {tile}");
            assert!(tile != Tile::Auto || plan.memory <= PLANE_MEMORY);
            assert_eq!(plan.worker.source > 0 && plan.worker.stored > 0, spilled);
        }
        let worker = Plan::new(&program, 9000, 12000, Tile::Auto).worker;
        let bytes = worker.ring
            + worker.out
            + worker.input
            + worker.products
            + worker.sums
            + 2 * worker.source
            + worker.stored;
        assert!(bytes < 8 << 20, "{bytes} bytes a worker");
    }
}
