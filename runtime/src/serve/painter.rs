//! A painter: one thread that owns a few open styles, with the buffers that their paintings take, and does jobs from a
//! fair queue.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::answer::Refusal;
use super::catalogue::Catalogue;
use super::queue::{FairQueue, LaneId};
use super::{Level, Log};
use crate::paint::{FramePainter, PaintOptions};
use crate::stylizer::{Stylizer, StylizerOptions};
use crate::{Progress, RuntimeError};

struct Job {
    /// What it paints with, by its index in the catalogue.
    style: usize,
    work: Box<dyn FnOnce(&mut Easel<'_>) + Send>,
}

/// How long a painter that is dropped waits for its thread, which a job may keep busy.
const FAREWELL: Duration = Duration::from_secs(2);

/// Hands jobs to a painting thread. Dropping it ends the thread, at the latest when its job is done.
pub struct Painter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: FairQueue<Job>,
    closed: bool,
    /// The thread is through.
    ended: bool,
}

/// How a painter's thread is set up.
#[derive(Debug, Clone, Copy)]
pub struct PainterOptions {
    /// Name of the thread.
    pub name: &'static str,
    /// Styles kept open; the one unused for longest goes first. 0: each is opened anew, and with it go the buffers
    /// of a large picture.
    pub open_styles: usize,
    /// Give way to other threads of the machine (Linux).
    pub background: bool,
    /// How styles are opened.
    pub stylizer: StylizerOptions,
}

/// What came of a job, and how long it took.
#[derive(Debug)]
pub struct Done<R> {
    /// What the job gave.
    pub result: R,
    /// Time in the queue.
    pub waited: Duration,
    /// Time of the job itself.
    pub worked: Duration,
}

impl Painter {
    /// Starts the thread; `log` is told of jobs that panic.
    ///
    /// # Errors
    /// [`RuntimeError::Serve`] when the system gives no thread.
    pub fn start(catalogue: Arc<Catalogue>, options: PainterOptions, log: Log) -> Result<Self, RuntimeError> {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        let inside = Arc::clone(&shared);
        let work = move || {
            if options.background {
                give_way();
            }
            inside.work(&catalogue, &options, &log);
            inside.lock().ended = true;
            inside.wake.notify_all();
        };
        let thread = std::thread::Builder::new()
            .name(options.name.to_string())
            .spawn(work)
            .map_err(|error| RuntimeError::Serve(format!("cannot start the painter's thread: {error}")))?;
        Ok(Painter { shared, thread: Some(thread) })
    }

    /// Has a job done with a style in its lane's turn. When the caller goes away the job is not begun, or told to stop.
    ///
    /// # Errors
    /// A [`Refusal`] when `limit` is over, or the painter panicked or is closing.
    pub async fn submit<R: Send + 'static>(
        &self,
        lane: LaneId,
        style: usize,
        cost: f64,
        limit: Duration,
        job: impl FnOnce(&mut Easel<'_>, &Progress<'_>) -> R + Send + 'static,
    ) -> Result<Done<R>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let pushed = Instant::now();
        let work = Box::new(move |easel: &mut Easel<'_>| {
            if reply.is_closed() {
                return;
            }
            let begun = Instant::now();
            let result = job(easel, &Progress::new().stop_when(&stopped));
            // Nobody may be waiting any more.
            let _ = reply.send(Done { result, waited: begun - pushed, worked: begun.elapsed() });
        });
        let _own = {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(closing());
            }
            let number = state.queue.push(lane, cost, Job { style, work });
            Own { stop, shared: Arc::clone(&self.shared), lane, number }
        };
        self.shared.wake.notify_one();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) if self.shared.lock().closed => Err(closing()),
            Ok(Err(_)) => Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                "the painter failed on this picture",
                "other pictures still work",
            )),
            Err(_) => Err(Refusal::too_slow()),
        }
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Takes no more jobs, and drops those that wait.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        self.shared.wake.notify_all();
        drop(waiting); // with their pictures, and not while others wait for the lock
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        self.close();
        let state = self.shared.lock();
        let waited = self.shared.wake.wait_timeout_while(state, FAREWELL, |state| !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = state.ended;
        drop(state);
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            let _ = thread.join(); // it catches its jobs' panics
        }
    }
}

/// A caller's hold on its job: when let go of, a job that is under way is told to stop, and one that waits is
/// dropped at once, not when its turn comes.
struct Own {
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    lane: LaneId,
    number: u64,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let job = self.shared.lock().queue.remove(self.lane, self.number);
        drop(job); // with its picture, and not while others wait for the lock
    }
}

fn closing() -> Refusal {
    Refusal::busy("the server is shutting down")
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Does jobs until the painter is closed.
    fn work(&self, catalogue: &Catalogue, options: &PainterOptions, log: &Log) {
        let mut open: Vec<_> = catalogue.entries().iter().map(|_| OnceCell::new()).collect();
        let mut kept = Vec::new();
        let mut next = self.next();
        while let Some(job) = next {
            // Room first, so that no more are ever open than may be.
            if !kept.contains(&job.style) {
                kept.truncate(options.open_styles.saturating_sub(1));
                close_all_but(&mut open, &kept);
            }
            let easel = Easel::new(catalogue, options, &open, &mut kept);
            let left = self.work_on(easel, job, log);
            close_all_but(&mut open, &kept);
            next = left.or_else(|| self.next());
        }
    }

    /// Does jobs until a style is to be closed, and gives the job whose style has no room before that. Until then the
    /// easel borrows what is open, and so its painters can keep their buffers.
    fn work_on(&self, mut easel: Easel<'_>, first: Job, log: &Log) -> Option<Job> {
        let mut job = first;
        loop {
            easel.style = job.style;
            // A job that panics drops its reply, which its caller hears of.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(&mut easel))) {
                let said = panic.downcast_ref::<&str>().copied();
                let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                log(Level::Trouble, &format!("the painter panicked: {}", said.unwrap_or("no reason given")));
                easel.kept.clear();
            }
            easel.kept.truncate(easel.options.open_styles);
            if easel.kept.len() < easel.open_styles() {
                return None;
            }
            job = self.next()?;
            if !easel.has_room_for(job.style) {
                return Some(job);
            }
        }
    }
}

fn close_all_but(open: &mut [OnceCell<Stylizer>], kept: &[usize]) {
    for (style, cell) in open.iter_mut().enumerate() {
        if !kept.contains(&style) {
            cell.take();
        }
    }
}

/// The open styles of a painter, as a job sees them: it paints with its own.
pub struct Easel<'a> {
    catalogue: &'a Catalogue,
    options: &'a PainterOptions,
    /// A place for each style of the catalogue.
    open: &'a [OnceCell<Stylizer>],
    /// Open ones that stay open, the last used first.
    kept: &'a mut Vec<usize>,
    /// Buffers, by style: jobs come one after the other, and so one set does for all callers.
    painters: BTreeMap<usize, FramePainter<'a>>,
    /// The job's.
    style: usize,
}

impl<'a> Easel<'a> {
    fn new(
        catalogue: &'a Catalogue,
        options: &'a PainterOptions,
        open: &'a [OnceCell<Stylizer>],
        kept: &'a mut Vec<usize>,
    ) -> Self {
        Easel { catalogue, options, open, kept, painters: BTreeMap::new(), style: 0 }
    }

    /// The job's style, opened if it is not.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when it cannot be opened.
    pub fn stylizer(&mut self) -> Result<&'a Stylizer, RuntimeError> {
        let style = self.style;
        let no_such_style = || RuntimeError::Serve("no such style".to_string());
        let place = self.open.get(style).ok_or_else(no_such_style)?;
        let stylizer = match place.get() {
            Some(stylizer) => stylizer,
            None => {
                let entry = self.catalogue.entries().get(style).ok_or_else(no_such_style)?;
                let stylizer = Stylizer::new(&entry.model, self.options.stylizer)?;
                place.get_or_init(|| stylizer)
            }
        };
        self.kept.retain(|kept| *kept != style);
        self.kept.insert(0, style);
        Ok(stylizer)
    }

    /// A painter of the job's style, which keeps its buffers for the jobs that follow.
    ///
    /// # Errors
    /// As for [`Easel::stylizer`].
    pub fn painter(&mut self, options: PaintOptions) -> Result<&mut FramePainter<'a>, RuntimeError> {
        let stylizer = self.stylizer()?;
        let painter = self.painters.entry(self.style).or_insert_with(|| FramePainter::new(stylizer, options));
        painter.set_options(options);
        Ok(painter)
    }

    /// Closes the job's style when the job is done, and with it the buffers that have grown with what it painted.
    pub fn close(&mut self) {
        self.kept.retain(|kept| *kept != self.style);
    }

    fn open_styles(&self) -> usize {
        self.open.iter().filter(|place| place.get().is_some()).count()
    }

    fn has_room_for(&self, style: usize) -> bool {
        self.kept.contains(&style) || self.kept.len() < self.options.open_styles
    }
}

/// Lets other threads go first: live frames before large pictures. Threads started from here inherit it.
fn give_way() {
    // Niceness is a thread's own on Linux only.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    let _ = rustix::process::nice(5); // without it, large pictures take their part of the processor
}

#[cfg(test)]
mod tests;
