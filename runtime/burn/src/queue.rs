//! Frames on their way through a device: while one is painted, the next goes up and the one before comes down.
//!
//! Reading a result blocks the thread that asks, whatever the backend; and a backend gives each thread a stream of its
//! own. So each frame in flight has a thread. On CUDA a stream has memory of its own, too, for as long as the process
//! lives: threads are not ended with their queue, but wait for the next one.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::device::Device;
use crate::error::BurnError;
use crate::post::PostSteps;

/// Frames that are on the device at a time: one is painted, the other goes up or comes down.
pub const IN_FLIGHT: usize = 2;

/// A frame, and what has become of it: its bytes are painted in place of the picture.
struct Job {
    rgb: Vec<u8>,
    width: usize,
    height: usize,
    post: PostSteps,
}

type Painted = Result<Job, BurnError>;

/// Paints a picture of this width and height in place, post-steps included.
pub(crate) type PaintInPlace =
    Box<dyn FnMut(&mut [u8], usize, usize, PostSteps) -> Result<(), BurnError> + Send>;

/// Paints frames one after the other, [`IN_FLIGHT`] of them at the same time; they come out in the order they went in.
pub struct FrameQueue {
    device: Device,
    workers: Vec<Worker>,
    /// For each frame that was submitted and not yet taken, whose it is.
    waiting: VecDeque<usize>,
    next: usize,
    spare: Vec<Vec<u8>>,
}

struct Worker {
    /// `None` once it is told to end.
    jobs: Option<Sender<Job>>,
    done: Receiver<Painted>,
    /// `None` once it is given back.
    thread: Option<Thread>,
}

impl FrameQueue {
    /// A queue whose workers each paint with one of `paint`.
    ///
    /// # Errors
    /// [`BurnError::Failed`] when the system gives no thread.
    pub(crate) fn new(device: Device, paint: impl Fn() -> PaintInPlace) -> Result<Self, BurnError> {
        let workers =
            (0..IN_FLIGHT).map(|_| Worker::start(device, paint())).collect::<Result<_, BurnError>>()?;
        Ok(FrameQueue { device, workers, waiting: VecDeque::new(), next: 0, spare: Vec::new() })
    }

    /// Sends a frame on its way and returns at once. Frames over [`IN_FLIGHT`] wait for their turn.
    ///
    /// # Errors
    /// [`BurnError::BufferSize`] when the bytes do not fit the size, or there are none.
    pub fn submit(
        &mut self,
        rgb: &[u8],
        width: usize,
        height: usize,
        post: PostSteps,
    ) -> Result<(), BurnError> {
        let expected = width.saturating_mul(height).saturating_mul(3);
        if rgb.len() != expected || expected == 0 {
            return Err(BurnError::BufferSize { found: rgb.len(), expected, width, height });
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(rgb);
        let worker = self.next;
        let job = Job { rgb: bytes, width, height, post };
        let sent = self.workers[worker].jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            return Err(self.gone());
        }
        self.next = (worker + 1) % self.workers.len();
        self.waiting.push_back(worker);
        Ok(())
    }

    /// How many frames have been submitted and not taken.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Waits for the oldest frame in flight: its painting goes into `painted`, whose length is set; returned are its
    /// width and height, `None` when no frame is in flight.
    ///
    /// # Errors
    /// [`BurnError::Failed`] when the device failed on this frame.
    pub fn take(&mut self, painted: &mut Vec<u8>) -> Result<Option<(usize, usize)>, BurnError> {
        let Some(worker) = self.waiting.pop_front() else { return Ok(None) };
        let Job { rgb, width, height, .. } =
            self.workers[worker].done.recv().unwrap_or_else(|_| Err(self.gone()))?;
        self.spare.push(std::mem::replace(painted, rgb));
        self.spare.truncate(IN_FLIGHT);
        Ok(Some((width, height)))
    }

    fn gone(&self) -> BurnError {
        BurnError::Failed { device: self.device.to_string(), reason: "its thread has ended".to_owned() }
    }
}

impl Drop for FrameQueue {
    fn drop(&mut self) {
        // All are told to end before any is waited for.
        for worker in &mut self.workers {
            worker.jobs = None;
        }
    }
}

impl Worker {
    fn start(device: Device, mut paint: PaintInPlace) -> Result<Self, BurnError> {
        let (jobs, todo) = channel::<Job>();
        let (finished, done) = channel();
        let work = move || {
            while let Ok(mut job) = todo.recv() {
                let result = paint(&mut job.rgb, job.width, job.height, job.post).map(|()| job);
                if finished.send(result).is_err() {
                    break;
                }
            }
            // What it holds on the device goes before the queue is told that the work has ended.
            drop(paint);
            drop(finished);
        };
        let thread = Thread::doing(Box::new(work)).map_err(|error| BurnError::Failed {
            device: device.to_string(),
            reason: format!("no thread: {error}"),
        })?;
        Ok(Worker { jobs: Some(jobs), done, thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        // Until the work has ended. A panic of the backend was caught where it happened; nothing else can.
        while self.done.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            thread.rest();
        }
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does one piece of work after the other.
struct Thread(Sender<Work>);

/// Threads without work.
static RESTING: Mutex<Vec<Thread>> = Mutex::new(Vec::new());

impl Thread {
    /// One that rested, or a new one.
    fn doing(work: Work) -> io::Result<Self> {
        let rested = RESTING.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = match rested {
            Some(thread) => match thread.0.send(work) {
                Ok(()) => return Ok(thread),
                Err(refused) => refused.0,
            },
            None => work,
        };
        let (sender, todo) = channel::<Work>();
        std::thread::Builder::new().name("impasto-frame".to_owned()).spawn(move || {
            for work in todo {
                work();
            }
        })?;
        let thread = Thread(sender);
        // It has just begun and waits for work.
        let _ = thread.0.send(work);
        Ok(thread)
    }

    /// Its work has ended.
    fn rest(self) {
        RESTING.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inverting() -> PaintInPlace {
        Box::new(|rgb, _, height, post| {
            if height == 2 {
                return Err(BurnError::Iteration { reason: "height 2".to_owned() });
            }
            assert_eq!(post, PostSteps::default());
            rgb.iter_mut().for_each(|value| *value = 255 - *value);
            Ok(())
        })
    }

    #[test]
    fn frames_come_out_in_the_order_they_went_in() {
        let mut queue = FrameQueue::new(Device::Cpu, inverting).unwrap();
        let mut painted = Vec::new();
        assert_eq!(queue.take(&mut painted).unwrap(), None);
        for value in 0..7 {
            let width = usize::from(value) + 1;
            queue.submit(&vec![value; 3 * width], width, 1, PostSteps::default()).unwrap();
        }
        assert_eq!(queue.in_flight(), 7);
        for value in 0..7 {
            assert_eq!(queue.take(&mut painted).unwrap(), Some((usize::from(value) + 1, 1)));
            assert_eq!(painted, vec![255 - value; 3 * (usize::from(value) + 1)]);
        }
        assert_eq!((queue.in_flight(), queue.take(&mut painted).unwrap()), (0, None));
    }

    /// A device that keeps memory for each thread must not see more of them with every queue.
    #[test]
    fn queues_one_after_the_other_have_the_same_threads() {
        let seen = std::sync::Arc::new(Mutex::new(std::collections::HashSet::new()));
        for _ in 0..20 {
            let queue = FrameQueue::new(Device::Cpu, || {
                let seen = std::sync::Arc::clone(&seen);
                Box::new(move |_, _, _, _| {
                    seen.lock().unwrap().insert(std::thread::current().id());
                    Ok(())
                })
            });
            let (mut queue, mut painted) = (queue.unwrap(), Vec::new());
            for _ in 0..IN_FLIGHT {
                queue.submit(&[0; 3], 1, 1, PostSteps::default()).unwrap();
            }
            while queue.take(&mut painted).unwrap().is_some() {}
        }
        // Tests run side by side and take each other's threads, but no more than there are tests.
        let threads = seen.lock().unwrap().len();
        assert!((IN_FLIGHT..=3 * IN_FLIGHT).contains(&threads), "{threads} threads");
    }

    #[test]
    fn a_frame_that_fails_does_not_take_the_others_along() {
        let mut queue = FrameQueue::new(Device::Cpu, inverting).unwrap();
        let mut painted = Vec::new();
        for height in [1, 2, 1] {
            queue.submit(&vec![9; 3 * height], 1, height, PostSteps::default()).unwrap();
        }
        for (rgb, width, height) in [(&[0; 5][..], 1, 1), (&[], 0, 4)] {
            assert!(queue.submit(rgb, width, height, PostSteps::default()).is_err());
        }
        assert_eq!(queue.take(&mut painted).unwrap(), Some((1, 1)));
        assert!(queue.take(&mut painted).unwrap_err().to_string().contains("height 2"));
        assert_eq!(queue.take(&mut painted).unwrap(), Some((1, 1)));
        // Dropped with a frame under way: nothing hangs.
        queue.submit(&[1, 2, 3], 1, 1, PostSteps::default()).unwrap();
    }
}
