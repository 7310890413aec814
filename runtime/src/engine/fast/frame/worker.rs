//! What a frame's workers have: buffers that are kept from frame to frame.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use crate::engine::fast::buffer::Buffer;
use crate::engine::fast::moments::{Moments, Table};
use crate::engine::fast::plan::{Plan, StagePlan};
use crate::engine::fast::planes::Planes;
use crate::engine::fast::program::Program;
use crate::lock::lock;

/// Buffers that are kept from frame to frame.
#[derive(Default)]
pub(in crate::engine::fast) struct State {
    pub(in crate::engine::fast) planes: Planes,
    pub(in crate::engine::fast) table: Table,
    /// By norm: factors, then summands.
    pub(super) factors: Vec<Buffer>,
    pub(super) total: Mutex<Moments>,
    /// When each stage was done, in nanoseconds from the frame's beginning.
    pub(in crate::engine::fast) done: Vec<AtomicU64>,
    pub(super) workers: Vec<Mutex<Worker>>,
}

/// A worker's own buffers.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) ring: Buffer,
    /// A band's results, before they are finished.
    pub(super) out: Buffer,
    /// Winograd's transformed inputs and products.
    pub(super) input: Buffer,
    pub(super) products: Buffer,
    /// Results of a colour's pieces, added up along their rows.
    pub(super) sums: Buffer,
    /// A row of the painted frame.
    pub(super) colors: Buffer,
    /// A row that is then doubled.
    pub(super) single: Buffer,
    /// Pieces of rows from and to the scratch file: a source, its trunk, a result.
    pub(super) source: Buffer,
    pub(super) trunk: Buffer,
    pub(super) stored: Buffer,
    /// A row's moments.
    pub(super) row: Buffer,
    pub(super) moments: Moments,
    /// The stage and the task after the last one done: if that is next, the ring's rows serve it.
    pub(super) next: (usize, usize),
    /// The first prepared row that is not in the ring.
    pub(super) prepared: usize,
    /// The first row that is not in the sums.
    pub(super) summed: usize,
}

impl State {
    /// Makes room for a plan, so that painting allocates nothing.
    pub(in crate::engine::fast) fn reserve(&mut self, program: &Program, plan: &Plan, workers: usize) {
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
            worker.sums.reserve(plan.worker.sums);
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
    pub(in crate::engine::fast) fn begin(&self) {
        for worker in &self.workers {
            lock(worker).next = (usize::MAX, 0);
        }
    }
}

/// Where a prepared row lies in the ring.
pub(super) fn ring_row(worker: &Worker, plan: &StagePlan, row: usize) -> *mut u8 {
    // SAFETY: the ring has room for the plan's rows.
    unsafe { worker.ring.start().add(row % plan.ring_rows * plan.ring_row) }
}
