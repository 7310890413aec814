//! Rows of a stage's source on their way into the ring: norm, ReLU, residual and border are applied here.

use std::io;
use std::ops::Range;

use super::FrameJob;
use super::worker::{Worker, ring_row};
use crate::engine::fast::grid::Task;
use crate::engine::fast::kernels::{FinishRow, LoadRow, PrepareRow, Store};
use crate::engine::fast::plan::StagePlan;
use crate::engine::fast::program::{Source, Stage};

/// A piece of a source's row, where it can be read.
struct SourceRow {
    /// Its first column.
    x: usize,
    from: *const u8,
    /// Null: none.
    trunk: *const u8,
}

impl FrameJob<'_> {
    /// Brings rows into the ring up to `end`.
    pub(super) fn prepare(
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
        let columns = stage.columns(task.x1 - task.x0);
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
                            match axis.source((first + column).min(last_column), width) {
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
    pub(super) fn keep(
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
}
