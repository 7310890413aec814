//! One frame on its way through the stages: what each task does.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::buffer::Buffer;
use super::direct::{Direct, MAX_KERNEL, Row};
use super::grid::Task;
use super::kernels::{FinishRow, Kernels, LoadRow, PrepareRow, Store, SumColumns};
use super::moments::{Moments, Table};
use super::plan::{Plan, StagePlan};
use super::planes::Planes;
use super::pool::Job;
use super::program::{Columns, Kernel, Program, Source, Stage, Target};
use super::tall::{MAX_REACH, Rows, Tall};
use super::watch::Watch;
use super::winograd::{PATCH, REACH, Strip};
use crate::engine::output;
use impasto_checkpoints::Output;

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

/// Buffers that are kept from frame to frame.
#[derive(Default)]
pub(super) struct State {
    pub(super) planes: Planes,
    pub(super) table: Table,
    /// By norm: factors, then summands.
    factors: Vec<Buffer>,
    total: Mutex<Moments>,
    /// When each stage was done, in nanoseconds from the frame's beginning.
    pub(super) done: Vec<AtomicU64>,
    workers: Vec<Mutex<Worker>>,
}

/// A worker's own buffers.
#[derive(Default)]
struct Worker {
    ring: Buffer,
    /// A band's results, before they are finished.
    out: Buffer,
    /// Winograd's transformed inputs and products.
    input: Buffer,
    products: Buffer,
    /// A row of the painted frame.
    colors: Buffer,
    /// A row that is then doubled.
    single: Buffer,
    /// Pieces of rows from and to the scratch file: a source, its trunk, a result.
    source: Buffer,
    trunk: Buffer,
    stored: Buffer,
    /// A row's moments.
    row: Buffer,
    moments: Moments,
    /// The stage and the task after the last one done: if that is next, the ring's rows serve it.
    next: (usize, usize),
    /// The first prepared row that is not in the ring.
    prepared: usize,
}

/// A piece of a source's row, where it can be read.
struct SourceRow {
    /// Its first column.
    x: usize,
    from: *const u8,
    /// Null: none.
    trunk: *const u8,
}

impl State {
    /// Makes room for a plan, so that painting allocates nothing.
    pub(super) fn reserve(&mut self, program: &Program, plan: &Plan, workers: usize) {
        self.planes.reserve(plan.memory);
        self.table.reserve(plan.moments);
        self.done.resize_with(program.stages.len() + 1, AtomicU64::default);
        self.factors.resize_with(program.norms.len(), Buffer::default);
        for (factors, norm) in self.factors.iter_mut().zip(&program.norms) {
            factors.reserve(8 * norm.weight.len());
        }
        lock(&self.total).reserve(plan.worker.channels);
        self.workers.resize_with(workers, Mutex::default);
        for worker in &self.workers {
            let mut worker = lock(worker);
            worker.ring.reserve(plan.worker.ring);
            worker.out.reserve(plan.worker.out);
            worker.input.reserve(plan.worker.input);
            worker.products.reserve(plan.worker.products);
            worker.colors.reserve(plan.worker.colors);
            worker.single.reserve(plan.worker.single);
            worker.source.reserve(plan.worker.source);
            worker.trunk.reserve(plan.worker.source);
            worker.stored.reserve(plan.worker.stored);
            worker.row.reserve(8 * plan.worker.channels);
            worker.moments.reserve(plan.worker.channels);
        }
    }

    /// Makes every worker forget its ring.
    pub(super) fn begin(&self) {
        for worker in &self.workers {
            lock(worker).next = (usize::MAX, 0);
        }
    }
}

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
            Kernel::Tall(tall) => {
                let pixels = task.x1 - task.x0;
                let (out, out_row) = (worker.out.start().cast::<f32>(), pixels * stage.outputs);
                for y in (task.y0..task.y1).step_by(PATCH) {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y + tall.reach())?;
                    let end = (y + PATCH).min(task.y1);
                    for row in y..end {
                        self.keep(worker, stage, plan, &task, row)?;
                    }
                    // SAFETY: the plan made room for the widest strip; the rows were just prepared.
                    unsafe {
                        tall_rows(worker, stage, plan, tall, y, pixels, out, out_row);
                        for row in 0..end - y {
                            self.finish(worker, stage, &task, y + row, out.add(row * out_row))?;
                        }
                    }
                }
            }
            Kernel::Columns { columns: Columns::Tall(tall), taps, bias } => {
                let pixels = task.x1 - task.x0 + taps - 1;
                let (out, out_row) = (worker.out.start().cast::<f32>(), pixels * tall.outputs());
                for y in (task.y0..task.y1).step_by(PATCH) {
                    if self.watch.is_stopped() {
                        return Ok(());
                    }
                    self.prepare(worker, stage, plan, &task, y + tall.reach())?;
                    // SAFETY: the plan made room for the widest strip; the rows were just prepared.
                    unsafe {
                        tall_rows(worker, stage, plan, tall, y, pixels, out, out_row);
                        for row in 0..(y + PATCH).min(task.y1) - y {
                            let columns = out.add(row * out_row);
                            self.sum_columns(
                                worker,
                                stage,
                                &task,
                                y + row,
                                columns,
                                tall.outputs(),
                                *taps,
                                *bias,
                            )?;
                        }
                    }
                }
            }
            Kernel::Columns { columns: Columns::Direct(direct), taps, bias } => {
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

    /// Adds up a row's columns and stores its colours.
    ///
    /// # Safety
    /// `columns` holds the task's pixels and the taps' reach.
    #[allow(clippy::too_many_arguments, reason = "a row, and what its columns are")]
    unsafe fn sum_columns(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        task: &Task,
        y: usize,
        columns: *const f32,
        pixel: usize,
        kernel: usize,
        bias: [f32; 3],
    ) -> io::Result<()> {
        let pixels = task.x1 - task.x0;
        let to = worker.colors.start().cast::<f32>();
        // SAFETY: the caller's promise; the plan made room for the widest strip.
        let colors = unsafe {
            (self.kernels.sum_columns)(&SumColumns { columns, pixel, kernel, pixels, bias, to });
            std::slice::from_raw_parts(to, 3 * pixels)
        };
        self.finish_colors(worker, stage, task, y, colors)
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

    /// Brings rows into the ring up to `end`.
    fn prepare(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        plan: &StagePlan,
        task: &Task,
        end: usize,
    ) -> io::Result<()> {
        let (height, width) = plan.source;
        let axis = &stage.axis;
        let first = task.x0 * axis.stride();
        let columns = match stage.kernel {
            Kernel::Winograd(_) => (task.x1 - task.x0).next_multiple_of(PATCH) + REACH - PATCH,
            _ => (task.x1 - task.x0 - 1) * axis.stride() + axis.reach(),
        };
        let pixel = stage.inputs * stage.prepared.bytes();
        // A patch may reach past the last prepared row or column. The last one stands in for what it finds there:
        // those outputs are thrown away, but all outputs of a patch share their rounding, and so a flat picture
        // stays exactly flat. (An instance norm would multiply what is left of its variance by 1/√ε.)
        let (last_row, last_column) = (axis.prepared_length(height) - 1, axis.prepared_length(width) - 1);
        // Prepared columns that lie within the source; the border is on both sides of them.
        let before = axis.before(width);
        let inner = before.clamp(first, first + columns)..(before + width).clamp(first, first + columns);
        let border = || (first..inner.start).chain(inner.end..first + columns);
        // Source columns that they and the border read.
        let mut needed = if inner.is_empty() { width..0 } else { inner.start - before..inner.end - before };
        for x in border().filter_map(|column| axis.source(column.min(last_column), width)) {
            needed = needed.start.min(x)..needed.end.max(x + 1);
        }
        if axis.is_doubled() {
            let first = axis.source(first, width).map_or(0, |x| x.saturating_sub(1));
            needed = first..((task.x0 + columns) / 2 + 1).min(width);
        }
        while worker.prepared < end {
            let to = ring_row(worker, plan, worker.prepared);
            match axis.source(worker.prepared.min(last_row), height) {
                // SAFETY: a prepared row holds `columns` pixels.
                None => unsafe { to.write_bytes(0, columns * pixel) },
                Some(y) if axis.is_doubled() => {
                    let row = self.source_row(worker, stage, y, &needed)?;
                    let single = worker.single.start();
                    // SAFETY: `single` has room for the widest strip's sources and the row for its columns.
                    unsafe {
                        self.prepare_pixels(stage, &row, needed.start, needed.len(), single);
                        for column in 0..columns {
                            let to = to.add(column * pixel);
                            match axis.source(first + column, width) {
                                Some(x) => {
                                    to.copy_from_nonoverlapping(single.add((x - needed.start) * pixel), pixel)
                                }
                                None => to.write_bytes(0, pixel),
                            }
                        }
                    }
                }
                Some(y) => {
                    let row = self.source_row(worker, stage, y, &needed)?;
                    for column in border() {
                        // SAFETY: within the row.
                        unsafe {
                            let to = to.add((column - first) * pixel);
                            match axis.source(column.min(last_column), width) {
                                Some(x) => self.prepare_pixels(stage, &row, x, 1, to),
                                None => to.write_bytes(0, pixel),
                            }
                        }
                    }
                    if !inner.is_empty() {
                        // SAFETY: within the row.
                        unsafe {
                            let to = to.add((inner.start - first) * pixel);
                            self.prepare_pixels(stage, &row, inner.start - before, inner.len(), to);
                        }
                    }
                }
            }
            worker.prepared += 1;
        }
        Ok(())
    }

    /// Columns of a source's row, brought where they can be read.
    fn source_row(
        &self,
        worker: &Worker,
        stage: &Stage,
        y: usize,
        columns: &Range<usize>,
    ) -> io::Result<SourceRow> {
        let x = columns.start;
        let read = |plane: usize, buffer| {
            self.state.planes.read(&self.plan.planes[plane], (y, x), columns.len(), buffer)
        };
        let (from, trunk) = match stage.source {
            // SAFETY: the frame holds plan.height × plan.width pixels.
            Source::Frame => unsafe { (self.rgb.add((y * self.plan.width + x) * 3), None) },
            Source::Plane { raw, trunk, .. } => {
                (read(raw, &worker.source)?, trunk.map(|trunk| read(trunk, &worker.trunk)).transpose()?)
            }
        };
        Ok(SourceRow { x, from, trunk: trunk.unwrap_or(std::ptr::null()) })
    }

    /// Prepares `pixels` of a source's row from column `x` on.
    ///
    /// # Safety
    /// They lie within the piece of the row, and `to` has room for them.
    unsafe fn prepare_pixels(&self, stage: &Stage, row: &SourceRow, x: usize, pixels: usize, to: *mut u8) {
        let x = x - row.x;
        match stage.source {
            Source::Frame => {
                // SAFETY: the caller's promises.
                unsafe {
                    let from = row.from.add(3 * x);
                    let load = |from: *const u8, pixels: usize, to: *mut u8| {
                        (self.kernels.load_row)(&LoadRow {
                            bytes: 3 * pixels,
                            from,
                            factors: self.input[0].as_ptr(),
                            summands: self.input[1].as_ptr(),
                            to,
                            to_store: stage.prepared,
                        });
                    };
                    if stage.inputs == 3 {
                        load(from, pixels, to);
                    } else {
                        let pixel = stage.inputs * stage.prepared.bytes();
                        to.write_bytes(0, pixels * pixel);
                        for p in 0..pixels {
                            load(from.add(3 * p), 1, to.add(p * pixel));
                        }
                    }
                }
            }
            Source::Plane { raw, norm, relu, trunk } => {
                let (factors, summands) = self.factors(norm);
                let at = x * self.plan.planes[raw].pixel;
                // SAFETY: the caller's promises; a norm's factors are as many as its channels.
                unsafe {
                    (self.kernels.prepare_row)(&PrepareRow {
                        pixels,
                        channels: stage.inputs,
                        from: row.from.add(at),
                        from_store: self.program.store,
                        // A trunk's pixels are as large as the plane's.
                        trunk: trunk.map_or(std::ptr::null(), |_| row.trunk.add(at)),
                        factors,
                        summands,
                        floor: if relu { 0.0 } else { f32::NEG_INFINITY },
                        to,
                        to_store: stage.prepared,
                    });
                }
            }
        }
    }

    /// Keeps base row `y` of the prepared rows as what a residual block is added to.
    fn keep(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        plan: &StagePlan,
        task: &Task,
        y: usize,
    ) -> io::Result<()> {
        let Some(keep) = stage.keep.map(|keep| &self.plan.planes[keep]) else { return Ok(()) };
        let (height, width) = plan.source;
        let (down, right) = (stage.axis.before(height), stage.axis.before(width));
        let pixel = stage.inputs * stage.prepared.bytes();
        let from = ring_row(worker, plan, y + down);
        let pixels = task.x1 - task.x0;
        let (planes, at) = (&self.state.planes, (y, task.x0));
        let to = planes.target(keep, at, pixels, &worker.stored);
        // SAFETY: a residual block's convolutions have stride 1, so its bases are source pixels; the row is in the
        // ring, and nobody else keeps this part of it.
        unsafe {
            let from = from.add(right * pixel);
            match (stage.prepared, self.program.store) {
                (Store::Bf16, Store::Bf16) | (Store::F32, Store::F32) => {
                    std::ptr::copy_nonoverlapping(from, to, pixels * pixel);
                }
                _ => (self.kernels.finish_row)(&FinishRow {
                    pixels,
                    channels: stage.inputs,
                    from: from.cast(),
                    to,
                    to_store: self.program.store,
                    moments: worker.row.start().cast(),
                }),
            }
        }
        planes.write(keep, at, pixels, &worker.stored)
    }

    /// Takes the moments of a row of results and stores it.
    ///
    /// # Safety
    /// `from` holds the task's pixels.
    unsafe fn finish(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        task: &Task,
        y: usize,
        from: *const f32,
    ) -> io::Result<()> {
        let Target::Plane { plane, .. } = stage.target else {
            debug_assert!(false, "only planes are finished by rows");
            return Ok(());
        };
        let up = stage.axis.up();
        let pixels = (task.x1 - task.x0) * up;
        let moments = worker.row.start().cast::<f32>();
        let (planes, plane, at) = (&self.state.planes, &self.plan.planes[plane], (y, task.x0 * up));
        // SAFETY: the row of the plane is this task's; `row` has room for twice the channels.
        let (means, deviations) = unsafe {
            (self.kernels.finish_row)(&FinishRow {
                pixels,
                channels: stage.outputs,
                from,
                to: planes.target(plane, at, pixels, &worker.stored),
                to_store: self.program.store,
                moments,
            });
            std::slice::from_raw_parts(moments, 2 * stage.outputs).split_at(stage.outputs)
        };
        worker.moments.merge(pixels, means.iter().copied(), deviations.iter().copied());
        planes.write(plane, at, pixels, &worker.stored)
    }

    /// Stores a row of three colours: painted, or in a plane whose moments are taken.
    fn finish_colors(
        &self,
        worker: &mut Worker,
        stage: &Stage,
        task: &Task,
        y: usize,
        colors: &[f32],
    ) -> io::Result<()> {
        match stage.target {
            Target::Colors { plane, .. } => {
                let pixels = colors.len() / 3;
                let (mut means, mut deviations) = ([0.0_f64; 3], [0.0_f64; 3]);
                for pixel in colors.chunks_exact(3) {
                    for (mean, &value) in means.iter_mut().zip(pixel) {
                        *mean += f64::from(value) / pixels as f64;
                    }
                }
                for pixel in colors.chunks_exact(3) {
                    for (c, &value) in pixel.iter().enumerate() {
                        deviations[c] += (f64::from(value) - means[c]).powi(2);
                    }
                }
                worker.moments.merge(pixels, means, deviations);
                let (planes, plane, at) = (&self.state.planes, &self.plan.planes[plane], (y, task.x0));
                let to = planes.target(plane, at, pixels, &worker.stored).cast::<f32>();
                // SAFETY: the row of the plane is this task's.
                unsafe { std::ptr::copy_nonoverlapping(colors.as_ptr(), to, colors.len()) };
                planes.write(plane, at, pixels, &worker.stored)
            }
            Target::Frame => {
                let mut painted = [0.0; 3 * 64];
                for (chunk, colors) in colors.chunks(painted.len()).enumerate() {
                    let values = &mut painted[..colors.len()];
                    output::values(colors, self.output, values);
                    self.paint(y, task.x0 + chunk * 64, values);
                }
                Ok(())
            }
            Target::Plane { .. } => {
                debug_assert!(false, "colours do not go to a plane of activations");
                Ok(())
            }
        }
    }

    /// The output norm, by rows of the frame.
    fn finish_normed(&self, worker: &mut Worker, y: usize) -> io::Result<()> {
        let Some((plane, norm)) = self.program.output_norm else { return Ok(()) };
        let (factors, summands) = self.factors(norm);
        let row = self.state.planes.read(&self.plan.planes[plane], (y, 0), self.width, &worker.source)?;
        // SAFETY: the stage before wrote the plane and its norm's factors; there are at least three.
        let (row, factors, summands) = unsafe {
            (
                std::slice::from_raw_parts(row.cast::<f32>(), 3 * self.width),
                std::slice::from_raw_parts(factors, 3),
                std::slice::from_raw_parts(summands, 3),
            )
        };
        let (mut normed, mut painted) = ([0.0; 3 * 64], [0.0; 3 * 64]);
        for (chunk, colors) in row.chunks(normed.len()).enumerate() {
            for (i, (to, &value)) in normed.iter_mut().zip(colors).enumerate() {
                *to = value * factors[i % 3] + summands[i % 3];
            }
            let values = &mut painted[..colors.len()];
            output::values(&normed[..colors.len()], self.output, values);
            self.paint(y, chunk * 64, values);
        }
        Ok(())
    }

    /// Writes a piece of a row of the painted frame, as far as it lies within.
    fn paint(&self, y: usize, x: usize, values: &[f32]) {
        if y >= self.height || x >= self.width {
            return;
        }
        let values = &values[..values.len().min(3 * (self.width - x))];
        let at = 3 * (y * self.width + x);
        // SAFETY: within the painted frame, and this piece is this task's.
        unsafe {
            match self.painted {
                Painted::Bytes(to) => {
                    output::bytes(values, std::slice::from_raw_parts_mut(to.add(at), values.len()));
                }
                Painted::Values(to) => {
                    std::ptr::copy_nonoverlapping(values.as_ptr(), to.add(at), values.len())
                }
            }
        }
    }
}

/// Computes four rows by tall kernels.
///
/// # Safety
/// The rows that they see are in the ring, and `out` has room for four.
#[allow(clippy::too_many_arguments, reason = "rows in, rows out")]
unsafe fn tall_rows(
    worker: &Worker,
    stage: &Stage,
    plan: &StagePlan,
    tall: &Tall,
    y: usize,
    pixels: usize,
    out: *mut f32,
    out_row: usize,
) {
    let rows: [*const f32; MAX_REACH] =
        std::array::from_fn(|row| ring_row(worker, plan, y + row).cast::<f32>().cast_const());
    // SAFETY: the caller's promises.
    unsafe {
        tall.rows(&Rows {
            rows: &rows[..tall.reach()],
            floats: plan.columns * stage.inputs,
            pixel: stage.inputs,
            pixels,
            input: &worker.input,
            products: &worker.products,
            out,
            out_row,
        });
    }
}

/// Where a prepared row lies in the ring.
fn ring_row(worker: &Worker, plan: &StagePlan, row: usize) -> *mut u8 {
    // SAFETY: the ring has room for the plan's rows.
    unsafe { worker.ring.start().add(row % plan.ring_rows * plan.ring_row) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
