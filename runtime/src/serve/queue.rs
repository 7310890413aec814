//! A fair queue: jobs wait in lanes, one for each caller, and the next job is that of the lane that has had least.
//!
//! Self-clocked fair queueing: a lane stands at a virtual time, which each of its jobs moves on by the job's cost;
//! the job that would end earliest is next, and its end becomes the queue's time. A lane that was idle starts at the
//! queue's time, so that nobody saves up, and a new lane is no better off than an old one: to come back under
//! another name gains nothing. With equal costs this is round robin; a lane of large frames gets as much of the
//! painter as one of small frames, and fewer of them painted.
//!
//! Source: Golestani, *A Self-Clocked Fair Queueing Scheme for Broadband Applications* (INFOCOM 1994).

use std::collections::{HashMap, VecDeque};

/// Who asks.
pub type LaneId = u64;

/// Jobs by lane.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Those in which something waits.
    lanes: HashMap<LaneId, Lane<T>>,
    /// Virtual time at which the job last begun ends.
    clock: f64,
    /// Jobs pushed so far; settles ties by arrival.
    pushed: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// Virtual time at which the lane's next job starts.
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
    /// as the smallest. Gives the job's number, by which it can be taken back.
    pub fn push(&mut self, lane: LaneId, cost: f64, job: T) -> u64 {
        let clock = self.clock;
        let lane = self.lanes.entry(lane).or_insert_with(|| Lane { time: clock, jobs: VecDeque::new() });
        let cost = if cost.is_finite() { cost.max(f64::MIN_POSITIVE) } else { f64::MIN_POSITIVE };
        let arrival = self.pushed;
        lane.jobs.push_back(Waiting { arrival, cost, job });
        self.pushed += 1;
        self.waiting += 1;
        arrival
    }

    /// Takes a job back, if it still waits. Its lane is as if it had never been there.
    pub fn remove(&mut self, lane: LaneId, number: u64) -> Option<T> {
        let own = self.lanes.get_mut(&lane)?;
        let at = own.jobs.iter().position(|job| job.arrival == number)?;
        let Waiting { job, .. } = own.jobs.remove(at)?;
        if own.jobs.is_empty() {
            self.lanes.remove(&lane);
        }
        self.waiting -= 1;
        Some(job)
    }

    /// The next job.
    pub fn pop(&mut self) -> Option<T> {
        let next = |lane: &Lane<T>| lane.jobs.front().map(|job| (lane.time + job.cost, job.arrival));
        let lane = self
            .lanes
            .iter()
            .filter_map(|(id, lane)| next(lane).map(|at| (at, *id)))
            .min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(_, id)| id)?;
        let own = self.lanes.get_mut(&lane)?;
        let Waiting { cost, job, .. } = own.jobs.pop_front()?;
        own.time += cost;
        self.clock = own.time;
        // An empty lane stands where a new one would.
        if own.jobs.is_empty() {
            self.lanes.remove(&lane);
        }
        self.waiting -= 1;
        Some(job)
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.waiting
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
        // Both start where lane 1's last job ended.
        assert_eq!(order, [1, 2, 1, 2, 1, 2, 1, 2]);
    }

    /// Callers who leave and come back as somebody else, ten of them waiting at any time, beside one who stays.
    #[test]
    fn whoever_comes_anew_again_and_again_does_not_starve_who_stays() {
        let mut queue = FairQueue::default();
        let stays = 0;
        for _ in 0..100 {
            queue.push(stays, 1.0, stays);
        }
        let mut fresh = 1..;
        for lane in fresh.by_ref().take(10) {
            queue.push(lane, 1.0, lane);
        }
        let mut turns = 0;
        for _ in 0..440 {
            if queue.pop().unwrap() == stays {
                turns += 1;
            } else {
                let lane = fresh.next().unwrap();
                queue.push(lane, 1.0, lane);
            }
        }
        assert!((39..=41).contains(&turns), "{turns} turns of 440, one of eleven would be 40");
    }

    /// Neither waits any more, nor is paid for.
    #[test]
    fn what_is_taken_back_is_as_if_it_had_never_been() {
        let mut queue = FairQueue::default();
        let large = queue.push(1, 100.0, "large");
        queue.push(1, 1.0, "small");
        queue.push(2, 2.0, "other");
        assert_eq!(
            (queue.remove(2, large), queue.remove(1, large), queue.remove(1, large)),
            (None, Some("large"), None)
        );
        assert_eq!(queue.len(), 2);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), ["small", "other"]);
        let number = queue.push(1, 1.0, "again");
        queue.remove(1, number).unwrap();
        assert!(queue.lanes.is_empty() && queue.len() == 0);
    }

    #[test]
    fn lanes_that_are_gone_leave_nothing_behind() {
        let mut queue = FairQueue::default();
        for lane in 0..10_000 {
            queue.push(lane, if lane % 7 == 0 { f64::NAN } else { 1.0 }, lane);
            assert_eq!(queue.pop(), Some(lane));
        }
        assert!(queue.lanes.len() <= 1, "{}", queue.lanes.len());
    }
}
