//! The learning rate as a function of the step alone, so that a resumed run needs to know nothing but the step.

use std::f64::consts::PI;

use burn::lr_scheduler::LrScheduler;
use burn::tensor::backend::Backend;

use crate::config::{ScheduleKind, TrainConfig};

/// The cosine schedule ends at this share of the learning rate.
const COSINE_FLOOR: f64 = 0.01;

/// The learning rate of every step; as burn-train's scheduler it counts the steps itself.
#[derive(Debug, Clone)]
pub struct Schedule {
    kind: ScheduleKind,
    learning_rate: f64,
    steps: u64,
    warmup_steps: u64,
    decay_every: u64,
    decay_factor: f64,
    next: u64,
}

impl Schedule {
    /// The schedule of a run, about to take step `next` (from 0).
    pub fn new(config: &TrainConfig, next: u64) -> Self {
        Schedule {
            kind: config.schedule,
            learning_rate: config.learning_rate,
            steps: config.steps,
            warmup_steps: config.warmup_steps,
            decay_every: config.decay_every.max(1),
            decay_factor: config.decay_factor,
            next,
        }
    }

    /// The learning rate of a step (from 0).
    ///
    /// Constant: η. Cosine over S steps: `η · (f + (1 − f) · (1 + cos(π · step / S)) / 2)` with f = 0.01. Step:
    /// `η · factor^⌊step / every⌋`. During a warm-up of W steps all are multiplied by `(step + 1) / W`.
    pub fn at(&self, step: u64) -> f64 {
        let shape = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => {
                let progress = (step as f64 / self.steps.max(1) as f64).min(1.0);
                COSINE_FLOOR + (1.0 - COSINE_FLOOR) * (1.0 + (PI * progress).cos()) / 2.0
            }
            ScheduleKind::Step => self.decay_factor.powf((step / self.decay_every) as f64),
        };
        let warmup =
            if step < self.warmup_steps { (step + 1) as f64 / self.warmup_steps as f64 } else { 1.0 };
        self.learning_rate * shape * warmup
    }
}

impl LrScheduler for Schedule {
    /// The next step.
    type Record<B: Backend> = u64;

    fn step(&mut self) -> f64 {
        let rate = self.at(self.next);
        self.next += 1;
        rate
    }

    fn to_record<B: Backend>(&self) -> u64 {
        self.next
    }

    fn load_record<B: Backend>(mut self, next: u64) -> Self {
        self.next = next;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    fn schedule(change: impl FnOnce(&mut TrainConfig)) -> Schedule {
        let mut config = Preset::Cpu.config();
        (config.learning_rate, config.steps) = (2.0, 100);
        change(&mut config);
        Schedule::new(&config, 0)
    }

    #[test]
    fn the_three_shapes() {
        let constant = schedule(|c| c.schedule = ScheduleKind::Constant);
        assert_eq!((constant.at(0), constant.at(99)), (2.0, 2.0));
        let cosine = schedule(|c| c.schedule = ScheduleKind::Cosine);
        assert!((cosine.at(0) - 2.0).abs() < 1e-12);
        assert!((cosine.at(50) - 2.0 * 0.505).abs() < 1e-12);
        assert!((cosine.at(100) - 0.02).abs() < 1e-12 && (cosine.at(1000) - 0.02).abs() < 1e-12);
        let step = schedule(|c| (c.schedule, c.decay_every, c.decay_factor) = (ScheduleKind::Step, 10, 0.5));
        assert_eq!((step.at(9), step.at(10), step.at(25)), (2.0, 1.0, 0.5));
    }

    #[test]
    fn warm_up_rises_to_the_schedule() {
        let warm = schedule(|c| (c.schedule, c.warmup_steps) = (ScheduleKind::Constant, 4));
        assert_eq!([0, 1, 3, 4].map(|step| warm.at(step)), [0.5, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn a_resumed_schedule_goes_on_where_it_was() {
        type Cpu = burn::backend::Flex;
        let mut whole = schedule(|c| c.schedule = ScheduleKind::Cosine);
        for _ in 0..7 {
            whole.step();
        }
        let record = LrScheduler::to_record::<Cpu>(&whole);
        let mut resumed =
            LrScheduler::load_record::<Cpu>(schedule(|c| c.schedule = ScheduleKind::Cosine), record);
        assert_eq!(whole.step().to_bits(), resumed.step().to_bits());
    }
}
