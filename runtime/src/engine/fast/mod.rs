//! The fast path: the network by rows, in strips and bands, with the kernels of the instruction set in hand.
//!
//! - `program`: the network as stages, weights packed (`direct`, `winograd`, `decomposed`)
//! - `plan`, `grid`: the program laid out for one size of frame, and cut into tasks
//! - `planes`: where activations are kept, in memory or in a file
//! - `frame`: what a task does: prepare rows, convolve, take moments, store
//! - `crate::pool`: the threads that do the tasks; `watch`: how far they are, and whether they are to stop
//! - `kernels`: the inner loops
//!
//! How a frame travels: a stage's workers bring rows of its source into small rings of prepared rows, and on the
//! way apply the instance norm, ReLU and residual that belong to the source, and its border; convolve them; take
//! the result's moments while it is still in the cache; and store it, as f32 or bf16. At the stage's end its
//! moments become the factors that the next one applies. So each plane is written once and read once, and there
//! are no passes between convolutions.

mod buffer;
mod decomposed;
mod direct;
mod frame;
mod grid;
mod kernels;
mod moments;
mod plan;
mod planes;
mod program;
mod watch;
mod winograd;

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use impasto_checkpoints::{Output, StyleModel};

use super::{Isa, PaintedMut, StageTime, Tile};
use crate::error::RuntimeError;
use crate::pool::Pool;
use crate::progress::Progress;
use frame::{FrameJob, Painted, State};
use kernels::{Kernels, Store};
use plan::Plan;
use program::{Kernel, Program, Source, Target};
use watch::Watch;

#[cfg(target_arch = "x86_64")]
pub(super) use kernels::amx::is_available as amx_is_available;

/// A style model packed for an instruction set, with the threads that run it.
pub(super) struct FastEngine {
    program: Program,
    kernels: &'static Kernels,
    output: Output,
    /// Factors and summands of the three input channels, sixteen times.
    input: [[f32; 48]; 2],
    minimum_size: usize,
    tile: Tile,
    /// One frame at a time: it has all threads.
    inner: Mutex<Inner>,
}

/// What a frame needs and the next one finds again.
struct Inner {
    pool: Pool,
    plan: Option<Plan>,
    state: State,
    /// A frame below the smallest size, with its last row and column repeated.
    enlarged: Vec<u8>,
}

impl FastEngine {
    /// Packs a model; none where there are no kernels for the instruction set.
    pub(super) fn new(
        model: &StyleModel,
        isa: Isa,
        bf16: bool,
        threads: usize,
    ) -> Result<Option<Self>, RuntimeError> {
        kernels::of(isa).map(|kernels| Self::with_kernels(model, kernels, bf16, threads)).transpose()
    }

    fn with_kernels(
        model: &StyleModel,
        kernels: &'static Kernels,
        bf16: bool,
        threads: usize,
    ) -> Result<Self, RuntimeError> {
        let architecture = model.architecture();
        let program = Program::new(model, kernels, bf16)?;
        let range = architecture.input.from_rgb255();
        let input = [std::array::from_fn(|i| range[i % 3].0), std::array::from_fn(|i| range[i % 3].1)];
        Ok(FastEngine {
            program,
            kernels,
            output: architecture.output,
            input,
            minimum_size: architecture.minimum_size(),
            tile: Tile::Auto,
            inner: Mutex::new(Inner {
                pool: Pool::new(threads),
                plan: None,
                state: State::default(),
                enlarged: Vec::new(),
            }),
        })
    }

    pub(super) fn threads(&self) -> usize {
        self.lock().pool.workers()
    }

    /// Sets how frames are cut and where their planes are kept.
    pub(super) fn set_tile(&mut self, tile: Tile) {
        self.tile = tile;
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).plan = None;
    }

    /// Paints a frame of `height × width` pixels; the sizes of the slices were checked.
    pub(super) fn run(
        &self,
        rgb: &[u8],
        width: usize,
        height: usize,
        painted: PaintedMut<'_>,
        progress: &Progress<'_>,
    ) -> Result<(), RuntimeError> {
        debug_assert_eq!(rgb.len(), 3 * width * height);
        let mut inner = self.lock();
        let inner = &mut *inner;
        let (seen_width, seen_height) = (width.max(self.minimum_size), height.max(self.minimum_size));
        if !matches!(&inner.plan, Some(plan) if (plan.width, plan.height) == (seen_width, seen_height)) {
            // A frame that does not get done leaves no plan behind.
            inner.plan = None;
            let plan = Plan::new(&self.program, seen_height, seen_width, self.tile);
            inner.state.reserve(&self.program, &plan, inner.pool.workers());
            inner.plan = Some(plan);
        }
        let Some(plan) = &inner.plan else { return Ok(()) };
        let rgb = if (seen_width, seen_height) == (width, height) {
            rgb
        } else {
            enlarge(rgb, width, height, seen_width, seen_height, &mut inner.enlarged);
            &inner.enlarged
        };
        let painted = match painted {
            PaintedMut::Bytes(bytes) => {
                assert_eq!(bytes.len(), 3 * width * height);
                Painted::Bytes(bytes.as_mut_ptr())
            }
            PaintedMut::Values(values) => {
                assert_eq!(values.len(), 3 * width * height);
                Painted::Values(values.as_mut_ptr())
            }
        };
        // A frame that ended in a panic may have left one.
        inner.state.planes.close_scratch();
        if plan.spilled {
            inner.state.planes.open_scratch(plan.plane_bytes)?;
        }
        inner.state.begin();
        let job = FrameJob {
            program: &self.program,
            kernels: self.kernels,
            plan,
            state: &inner.state,
            output: self.output,
            input: &self.input,
            rgb: rgb.as_ptr(),
            height,
            width,
            painted,
            began: Instant::now(),
            watch: Watch::new(progress, plan),
        };
        inner.pool.run(&job);
        let result = job.watch.result(plan);
        inner.state.planes.close_scratch();
        result
    }

    /// Where the last frame's time went; empty before the first.
    pub(super) fn profile(&self) -> Vec<StageTime> {
        let inner = self.lock();
        let Some(plan) = &inner.plan else { return Vec::new() };
        let mut before = 0;
        let stages = self.program.stages.iter().zip(&plan.stages).zip(&inner.state.done);
        let times = stages.map(|((stage, plan), done)| {
            let done = done.load(Ordering::Relaxed);
            let nanoseconds = done.saturating_sub(before);
            before = done;
            let outputs = stage.axis.bases(plan.source.0) * stage.axis.bases(plan.source.1);
            let plane = |plane: usize| inner.plan.as_ref().map_or(0, |plan| plan.planes[plane].bytes());
            let read = match stage.source {
                Source::Frame => 3 * plan.source.0 * plan.source.1,
                Source::Plane { raw, trunk, .. } => plane(raw) + trunk.map_or(0, plane),
            };
            let written = match stage.target {
                Target::Plane { plane: to, .. } | Target::Colors { plane: to, .. } => plane(to),
                Target::Frame => 3 * outputs,
            };
            StageTime {
                name: stage.name.clone(),
                kernel: match (&stage.kernel, stage.prepared) {
                    (Kernel::Winograd(_) | Kernel::Decomposed(_) | Kernel::Colors(_), _) => "winograd f32",
                    (_, Store::Bf16) => "direct bf16",
                    _ => "direct f32",
                },
                milliseconds: nanoseconds as f64 / 1e6,
                multiply_adds: (stage.multiply_adds * outputs) as f64,
                bytes: (read + written + stage.keep.map_or(0, plane)) as f64,
            }
        });
        times.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic leaves buffers that are written before they are read anyway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Repeats the last row and column.
fn enlarge(
    rgb: &[u8],
    width: usize,
    height: usize,
    to_width: usize,
    to_height: usize,
    enlarged: &mut Vec<u8>,
) {
    enlarged.clear();
    for y in 0..to_height {
        let row = &rgb[y.min(height - 1) * width * 3..][..width * 3];
        enlarged.extend_from_slice(row);
        for _ in width..to_width {
            enlarged.extend_from_slice(&row[(width - 1) * 3..]);
        }
    }
}
