//! One frame on its way through the stages: what each task does.
//!
//! - `worker`: the buffers
//! - `prepare`: source rows into the ring
//! - `finish`: results out of it

mod finish;
mod prepare;
mod worker;

use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::decomposed::{Colors, Line, MAX_REACH};
use super::direct::{Direct, MAX_KERNEL, Row};
use super::grid::Task;
use super::kernels::Kernels;
use super::plan::{Plan, StagePlan};
use super::program::{Kernel, Program, Stage, Target};
use super::watch::Watch;
use super::winograd::{PATCH, REACH, Strip};
use crate::lock::lock;
use crate::pool::Job;
use impasto_checkpoints::Output;
pub(super) use worker::State;
use worker::{Worker, ring_row};

/// Where a painted frame goes.
#[derive(Clone, Copy)]
pub(super) enum Painted {
    Bytes(*mut u8),
    Values(*mut f32),
}

/// What all workers share while a frame is painted.
pub(super) struct FrameJob<'a> {
    pub(super) program: &'a Program,
    pub(super) kernels: &'a Kernels,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
    pub(super) output: Output,
    /// Factors and summands of the three input channels, sixteen times.
    pub(super) input: &'a [[f32; 48]; 2],
    /// The frame, `plan.height × plan.width` pixels.
    pub(super) rgb: *const u8,
    /// The painted frame's size: at most the plan's.
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) painted: Painted,
    pub(super) began: Instant,
    pub(super) watch: Watch<'a>,
}

// SAFETY: the frame is only read; tasks write disjoint rows of the painted frame and of the planes, and read what
// earlier stages wrote, behind the pool's gate.
unsafe impl Sync for FrameJob<'_> {}

impl Job for FrameJob<'_> {
    fn stages(&self) -> usize {
        self.program.stages.len() + usize::from(self.program.output_norm.is_some())
    }

    fn tasks(&self, stage: usize) -> usize {
        self.plan.stages.get(stage).map_or(self.height, |plan| plan.grid.tasks())
    }

    fn work(&self, worker_index: usize, stage: usize, task: usize) {
        if self.watch.is_stopped() {
            return;
        }
        let mut worker = lock(&self.state.workers[worker_index]);
        let done = match self.plan.stages.get(stage) {
            Some(plan) => {
                let task = if self.plan.spilled { plan.grid.across(task) } else { task };
                self.convolve(&mut worker, stage, task)
            }
            None => self.finish_normed(&mut worker, task),
        };
        match done {
            Ok(()) => {
                self.watch.advance(worker_index, self.plan.stages.get(stage).map_or(0, |s| s.task_work))
            }
            Err(error) => self.watch.fail(error),
        }
    }

    fn close(&self, stage: usize) {
        let nanoseconds = self.began.elapsed().as_nanos();
        self.state.done[stage].store(nanoseconds as u64, Ordering::Relaxed);
        if self.watch.is_stopped() {
            return; // tasks are missing
        }
        let Some(Target::Plane { norm, .. } | Target::Colors { norm, .. }) =
            self.program.stages.get(stage).map(|stage| stage.target)
        else {
            return;
        };
        let (grid, norm_spec) = (&self.plan.stages[stage].grid, &self.program.norms[norm]);
        let up = self.program.stages[stage].axis.up();
        let mut total = lock(&self.state.total);
        total.reset(self.channels(stage));
        for index in 0..grid.tasks() {
            let task = grid.task(index);
            let count = (task.y1 - task.y0) * (task.x1 - task.x0) * up * up;
            self.state.table.merge_into(&mut total, index, count);
        }
        // SAFETY: only the worker that closes a stage runs, and the buffers hold both.
        let (factors, summands) = unsafe {
            let (factors, summands) = self.factors(norm);
            let n = norm_spec.weight.len();
            (std::slice::from_raw_parts_mut(factors, n), std::slice::from_raw_parts_mut(summands, n))
        };
        total.factors(norm_spec, factors, summands);
    }
}

impl FrameJob<'_> {
    /// Channels of the plane that a stage writes.
    fn channels(&self, stage: usize) -> usize {
        match self.program.stages[stage].target {
            Target::Plane { plane, .. } | Target::Colors { plane, .. } => self.program.planes[plane].channels,
            Target::Frame => 0,
        }
    }

    /// Factors and summands of a norm.
    fn factors(&self, norm: usize) -> (*mut f32, *mut f32) {
        let start = self.state.factors[norm].start().cast::<f32>();
        // SAFETY: the buffer holds twice the norm's channels.
        (start, unsafe { start.add(self.program.norms[norm].weight.len()) })
    }

    fn convolve(&self, worker: &mut Worker, stage_index: usize, task_index: usize) -> io::Result<()> {
        let stage = &self.program.stages[stage_index];
        let plan = &self.plan.stages[stage_index];
        let task = plan.grid.task(task_index);
        let first = task.y0 * stage.axis.stride();
        let follows = worker.next == (stage_index, task_index) && task.y0 > 0;
        worker.prepared = if follows { worker.prepared.max(first) } else { first };
        worker.next = (stage_index, task_index + 1);
        worker.moments.reset(self.channels(stage_index));
        match &stage.kernel {
            Kernel::Direct(direct) => {
                for y in task.y0..task.y1 {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y * stage.axis.stride() + plan.ring_rows)?;
                    self.keep(worker, stage, plan, &task, y)?;
                    self.direct_row(worker, stage, plan, direct, &task, y)?;
                }
            }
            Kernel::Winograd(winograd) => {
                for y in (task.y0..task.y1).step_by(PATCH) {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y + REACH)?;
                    let end = (y + PATCH).min(task.y1);
                    for row in y..end {
                        self.keep(worker, stage, plan, &task, row)?;
                    }
                    let up = stage.axis.up();
                    let patches = (task.x1 - task.x0).div_ceil(PATCH);
                    let out = worker.out.start().cast::<f32>();
                    let out_row = patches * PATCH * up * stage.outputs;
                    // SAFETY: the plan made room for the widest strip; the rows were just prepared.
                    unsafe {
                        winograd.strip(&Strip {
                            rows: std::array::from_fn(|row| {
                                ring_row(worker, plan, y + row).cast::<f32>().cast_const()
                            }),
                            patches,
                            input: &worker.input,
                            products: &worker.products,
                            out,
                            out_row,
                            out_pixel: stage.outputs,
                        });
                        for row in 0..(end - y) * up {
                            self.finish(worker, stage, &task, y * up + row, out.add(row * out_row))?;
                        }
                    }
                }
            }
            Kernel::Decomposed(kernel) => {
                let patches = (task.x1 - task.x0).div_ceil(PATCH);
                let out = worker.out.start().cast::<f32>();
                let out_row = patches * PATCH * stage.outputs;
                for y in (task.y0..task.y1).step_by(PATCH) {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y + kernel.reach())?;
                    let end = (y + PATCH).min(task.y1);
                    for row in y..end {
                        self.keep(worker, stage, plan, &task, row)?;
                    }
                    let rows: [*const f32; MAX_REACH] =
                        std::array::from_fn(|row| ring_row(worker, plan, y + row).cast::<f32>().cast_const());
                    // SAFETY: the plan made room for the widest strip; the rows were just prepared.
                    unsafe {
                        kernel.line(&Line {
                            rows: &rows[..kernel.reach()],
                            patches,
                            input: &worker.input,
                            products: &worker.products,
                            out,
                            out_row,
                        });
                        for row in 0..end - y {
                            self.finish(worker, stage, &task, y + row, out.add(row * out_row))?;
                        }
                    }
                }
            }
            Kernel::Colors(kernel) => {
                worker.summed = if follows { worker.summed } else { task.y0 };
                for y in task.y0..task.y1 {
                    while worker.summed <= y + kernel.beyond() {
                        if self.watch.is_stopped() {
                            return Ok(());
                        }
                        self.sum_pieces(worker, stage, plan, kernel, &task)?;
                    }
                    let pixels = task.x1 - task.x0;
                    let to = worker.colors.start().cast::<f32>();
                    // SAFETY: the plan made room for the widest strip; the rows were just summed.
                    let colors = unsafe {
                        kernel.add_rows(y, pixels, &worker.sums, to);
                        std::slice::from_raw_parts(to, 3 * pixels)
                    };
                    self.finish_colors(worker, stage, &task, y, colors)?;
                }
            }
            Kernel::Columns { direct, taps, bias } => {
                let columns = worker.out.start().cast::<f32>();
                for y in task.y0..task.y1 {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y + plan.ring_rows)?;
                    let rows: [*const u8; MAX_KERNEL] =
                        std::array::from_fn(|row| ring_row(worker, plan, y + row).cast_const());
                    // SAFETY: the plan made room for the widest strip; the rows were just prepared.
                    unsafe {
                        direct.row(&Row {
                            rows: &rows[..direct.rows],
                            pixel_bytes: stage.inputs * stage.prepared.bytes(),
                            pixel: stage.inputs,
                            pixels: task.x1 - task.x0 + taps - 1,
                            out: columns,
                            out_pixel: direct.outputs(),
                        });
                        self.sum_columns(worker, stage, &task, y, columns, direct.outputs(), *taps, *bias)?;
                    }
                }
            }
        }
        if !matches!(stage.target, Target::Frame) {
            self.state.table.store(task_index, &worker.moments);
        }
        Ok(())
    }

    /// Computes and finishes the outputs of one base row.
    fn direct_row(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        plan: &StagePlan,
        direct: &Direct,
        task: &Task,
        y: usize,
    ) -> io::Result<()> {
        let stride = stage.axis.stride();
        let out = worker.out.start().cast::<f32>();
        let rows: [*const u8; MAX_KERNEL] =
            std::array::from_fn(|row| ring_row(worker, plan, y * stride + row).cast_const());
        // SAFETY: the plan made room for the widest strip; the rows were just prepared.
        unsafe {
            direct.row(&Row {
                rows: &rows[..direct.rows],
                pixel_bytes: stride * stage.inputs * stage.prepared.bytes(),
                pixel: stride * stage.inputs,
                pixels: task.x1 - task.x0,
                out,
                out_pixel: stage.outputs,
            });
            self.finish(worker, stage, task, y, out)
        }
    }

    /// Computes the next `PATCH` rows of a colour's pieces, and adds them up along their rows.
    fn sum_pieces(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        plan: &StagePlan,
        kernel: &Colors,
        task: &Task,
    ) -> io::Result<()> {
        let y = worker.summed;
        self.prepare(worker, stage, plan, task, y + REACH)?;
        let pixels = task.x1 - task.x0;
        let patches = kernel.patches(pixels);
        let out = worker.out.start().cast::<f32>();
        let out_row = patches * PATCH * kernel.outputs;
        // SAFETY: the plan made room for the widest strip; the rows were just prepared.
        unsafe {
            kernel.winograd.strip(&Strip {
                rows: std::array::from_fn(|row| ring_row(worker, plan, y + row).cast::<f32>().cast_const()),
                patches,
                input: &worker.input,
                products: &worker.products,
                out,
                out_row,
                out_pixel: kernel.outputs,
            });
            for row in 0..PATCH {
                kernel.add_columns(self.kernels, out.add(row * out_row), y + row, pixels, &worker.sums);
            }
        }
        worker.summed += PATCH;
        Ok(())
    }
}
