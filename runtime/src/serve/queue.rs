//! A fair queue: jobs wait in lanes, one for each caller, and the next job is that of the lane that has had least.
//!
//! Start-time fair queueing: a lane stands at a virtual time, which each of its jobs moves on by the job's cost;
//! the lane that stands earliest is served, and its time becomes the queue's. A lane that was idle starts at the
//! queue's time, so that nobody saves up. With equal costs this is round robin; a lane of large frames gets as
//! much of the painter as one of small frames, and fewer of them painted.
//!
//! Source: Goyal, Vin, Cheng, *Start-time Fair Queuing* (SIGCOMM 1996).

use std::collections::{HashMap, VecDeque};

/// Who asks.
pub type LaneId = u64;

/// Jobs by lane.
#[derive(Debug)]
pub struct FairQueue<T> {
    lanes: HashMap<LaneId, Lane<T>>,
    /// Virtual time at which the last job was begun.
    clock: f64,
    /// Jobs pushed so far; settles ties by arrival.
    pushed: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Lane<T> {
    time: f64,
    jobs: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    arrival: u64,
    cost: f64,
    job: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue { lanes: HashMap::new(), clock: 0.0, pushed: 0, waiting: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Adds a job to a lane's end. `cost` is in any unit, the same for all; what is not a positive number counts
    /// as the smallest.
    pub fn push(&mut self, lane: LaneId, cost: f64, job: T) {
        let clock = self.clock;
        let lane = self.lanes.entry(lane).or_insert_with(|| Lane { time: clock, jobs: VecDeque::new() });
        lane.time = lane.time.max(clock);
        let cost = if cost.is_finite() { cost.max(f64::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
        lane.jobs.push_back(Waiting { arrival: self.pushed, cost, job });
        self.pushed += 1;
        self.waiting += 1;
    }

    /// The next job.
    pub fn pop(&mut self) -> Option<T> {
        let next = |lane: &Lane<T>| lane.jobs.front().map(|job| (lane.time, job.arrival));
        let lane = self
            .lanes
            .iter()
            .filter_map(|(id, lane)| next(lane).map(|at| (at, *id)))
            .min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(_, id)| id)?;
        let lane = self.lanes.get_mut(&lane)?;
        let Waiting { cost, job, .. } = lane.jobs.pop_front()?;
        self.clock = lane.time;
        lane.time += cost;
        self.waiting -= 1;
        // An empty lane that the clock has caught up with is as good as a new one.
        let clock = self.clock;
        self.lanes.retain(|_, lane| !lane.jobs.is_empty() || lane.time > clock);
        Some(job)
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        self.lanes.clear();
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_take_turns_however_much_one_pushes() {
        let mut queue = FairQueue::default();
        for number in 0..6 {
            queue.push(1, 1.0, (1, number));
        }
        for number in 0..3 {
            queue.push(2, 1.0, (2, number));
        }
        queue.push(3, 1.0, (3, 0));
        assert_eq!(queue.len(), 10);
        let order: Vec<(u64, u32)> = std::iter::from_fn(|| queue.pop()).collect();
        let expected = [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (1, 4), (1, 5)];
        assert_eq!(order, expected);
        assert_eq!(queue.len(), 0);
    }

    /// A lane of large frames and one of small ones, each with one frame waiting at a time, get equal parts.
    #[test]
    fn shares_are_of_work_and_not_of_jobs() {
        let mut queue = FairQueue::default();
        let costs = [9.0, 1.0];
        let mut work = [0.0, 0.0];
        for (lane, cost) in costs.into_iter().enumerate() {
            queue.push(lane as u64, cost, lane);
        }
        for _ in 0..1000 {
            let lane = queue.pop().unwrap();
            work[lane] += costs[lane];
            queue.push(lane as u64, costs[lane], lane);
        }
        assert!((work[0] / work[1] - 1.0).abs() < 0.02, "{work:?}");
    }

    #[test]
    fn who_was_away_neither_saves_up_nor_is_punished() {
        let mut queue = FairQueue::default();
        for _ in 0..50 {
            queue.push(1, 1.0, 1);
            assert_eq!(queue.pop(), Some(1));
        }
        for _ in 0..4 {
            queue.push(1, 1.0, 1);
            queue.push(2, 1.0, 2);
        }
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
        // Lane 2 starts at the time of the job that lane 1 had last.
        assert_eq!(order, [2, 1, 2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn lanes_that_are_gone_leave_nothing_behind() {
        let mut queue = FairQueue::default();
        for lane in 0..10_000 {
            queue.push(lane, 1.0, lane);
            queue.push(lane, f64::NAN, lane);
            assert!(queue.pop().is_some() && queue.pop().is_some());
        }
        assert!(queue.lanes.len() <= 3, "{}", queue.lanes.len());
    }
}
