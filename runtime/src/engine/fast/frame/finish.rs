//! Rows of results: their moments are taken and they are stored, or they are painted.

use std::io;

use super::worker::Worker;
use super::{FrameJob, Painted};
use crate::engine::fast::grid::Task;
use crate::engine::fast::kernels::{FinishRow, SumColumns};
use crate::engine::fast::program::{Stage, Target};
use crate::engine::output;

impl FrameJob<'_> {
    /// Adds up a row's columns and stores its colours.
    ///
    /// # Safety
    /// `columns` holds the task's pixels and the taps' reach.
    #[allow(clippy::too_many_arguments, reason = "a row, and what its columns are")]
    pub(super) unsafe fn sum_columns(
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

    /// Takes the moments of a row of results and stores it.
    ///
    /// # Safety
    /// `from` holds the task's pixels.
    pub(super) unsafe fn finish(
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
    pub(super) fn finish_colors(
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
    pub(super) fn finish_normed(&self, worker: &mut Worker, y: usize) -> io::Result<()> {
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
