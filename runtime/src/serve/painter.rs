//! A painter: one thread that owns a few open styles and takes jobs from a fair queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::oneshot;

use super::answer::Refusal;
use super::catalogue::Catalogue;
use super::queue::{FairQueue, LaneId};
use super::{Level, Log};
use crate::stylizer::{Stylizer, StylizerOptions};
use crate::{Progress, RuntimeError};

type Job = Box<dyn FnOnce(&mut Easel) + Send>;

/// Where a job waits; who waits for it can take it back, with the picture that it holds.
type Slot = Mutex<Option<Job>>;

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
    queue: FairQueue<Arc<Slot>>,
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
            inside.work(Easel { catalogue, options, open: Vec::new() }, &log);
            inside.lock().ended = true;
            inside.wake.notify_all();
        };
        let thread = std::thread::Builder::new()
            .name(options.name.to_string())
            .spawn(work)
            .map_err(|error| RuntimeError::Serve(format!("cannot start the painter's thread: {error}")))?;
        Ok(Painter { shared, thread: Some(thread) })
    }

    /// Has a job done in its lane's turn. When the caller goes away the job is not begun, or told to stop.
    ///
    /// # Errors
    /// A [`Refusal`] when `limit` is over, or the painter panicked or is closing.
    pub async fn submit<R: Send + 'static>(
        &self,
        lane: LaneId,
        cost: f64,
        limit: Duration,
        job: impl FnOnce(&mut Easel, &Progress<'_>) -> R + Send + 'static,
    ) -> Result<Done<R>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let pushed = Instant::now();
        let job: Job = Box::new(move |easel| {
            if reply.is_closed() {
                return;
            }
            let begun = Instant::now();
            let result = job(easel, &Progress::new().stop_when(&stopped));
            // Nobody may be waiting any more.
            let _ = reply.send(Done { result, waited: begun - pushed, worked: begun.elapsed() });
        });
        let slot = Arc::new(Mutex::new(Some(job)));
        let _own = Own { stop, slot: Arc::downgrade(&slot) };
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(closing());
            }
            state.queue.push(lane, cost, slot);
        }
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
    /// The queue's.
    slot: Weak<Slot>,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let job = self.slot.upgrade().and_then(|slot| take(&slot));
        drop(job);
    }
}

fn take(slot: &Slot) -> Option<Job> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
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
            // Those that were taken back are passed over.
            while let Some(slot) = state.queue.pop() {
                let Some(job) = take(&slot) else { continue };
                return Some(job);
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, mut easel: Easel, log: &Log) {
        while let Some(job) = self.next() {
            // A job that panics drops its reply, which its caller hears of.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(&mut easel))) {
                let said = panic.downcast_ref::<&str>().copied();
                let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                log(Level::Trouble, &format!("the painter panicked: {}", said.unwrap_or("no reason given")));
                easel.open.clear();
            }
            easel.open.truncate(easel.options.open_styles);
        }
    }
}

/// The open styles of a painter.
pub struct Easel {
    catalogue: Arc<Catalogue>,
    options: PainterOptions,
    /// The last used first.
    open: Vec<(usize, Stylizer)>,
}

impl Easel {
    /// A style by its index in the catalogue, opened if it is not.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when it cannot be opened.
    pub fn stylizer(&mut self, style: usize) -> Result<&Stylizer, RuntimeError> {
        let stylizer = match self.open.iter().position(|(open, _)| *open == style) {
            Some(at) => self.open.remove(at).1,
            None => {
                // Room first, so that no more are ever open than may be.
                self.open.truncate(self.options.open_styles.saturating_sub(1));
                let entry = self.catalogue.entries().get(style);
                let entry = entry.ok_or_else(|| RuntimeError::Serve("no such style".to_string()))?;
                Stylizer::new(&entry.model, self.options.stylizer)?
            }
        };
        self.open.insert(0, (style, stylizer));
        Ok(&self.open[0].1)
    }

    /// Closes a style, and with it the buffers that have grown with what it painted.
    pub fn close(&mut self, style: usize) {
        self.open.retain(|(open, _)| *open != style);
    }
}

/// Lets other threads go first: live frames before large pictures. Threads started from here inherit it.
fn give_way() {
    // Niceness is a thread's own on Linux only.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    let _ = rustix::process::nice(5); // without it, large pictures take their part of the processor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painter(open_styles: usize) -> Painter {
        painter_with_log(open_styles, Arc::new(|_, _| {}))
    }

    fn painter_with_log(open_styles: usize, log: Log) -> Painter {
        let catalogue = Arc::new(Catalogue::of_names(&["a", "b", "c"]));
        let stylizer = StylizerOptions { threads: Some(1), ..StylizerOptions::default() };
        let options = PainterOptions { name: "painter", open_styles, background: true, stylizer };
        Painter::start(catalogue, options, log).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn no_more_styles_are_open_than_may_be() {
        let painter = painter(2);
        for style in [0, 1, 2, 1, 0, 0, 2] {
            let open = painter.submit(1, 1.0, LONG, move |easel, _| {
                easel.stylizer(style).unwrap();
                easel.open.iter().map(|(style, _)| *style).collect::<Vec<_>>()
            });
            let open = open.await.unwrap().result;
            assert!(open.len() <= 2 && open[0] == style, "{open:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_one_callers_error_and_told_to_the_operator() {
        let (told, line) = std::sync::mpsc::channel();
        let painter =
            painter_with_log(1, Arc::new(move |level, line| drop(told.send((level, line.to_owned())))));
        let refusal = painter.submit(1, 1.0, LONG, |_, _| panic!("on purpose")).await.map(|_: Done<()>| ());
        assert_eq!(refusal.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(painter.submit(1, 1.0, LONG, |_, _| 7).await.unwrap().result, 7);
        assert_eq!(line.recv().unwrap(), (Level::Trouble, "the painter panicked: on purpose".to_string()));
    }

    #[tokio::test]
    async fn a_job_that_takes_too_long_is_told_to_stop() {
        let painter = painter(1);
        let (saw, seen) = oneshot::channel();
        let refusal = painter.submit(1, 1.0, Duration::from_millis(20), move |_, progress| {
            while !progress.is_stopped() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = saw.send(());
        });
        assert_eq!(refusal.await.unwrap_err().reason, "too_slow");
        seen.await.unwrap();
    }

    /// A painter whose thread is busy until the sender sends or is dropped.
    async fn parked() -> (Arc<Painter>, std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let painter = Arc::new(painter(1));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let parked = Arc::clone(&painter);
        let caller = tokio::spawn(async move {
            let park = move |_: &mut Easel, _: &Progress<'_>| {
                let _ = began.send(());
                let _ = gate.recv();
            };
            let _ = parked.submit(1, 1.0, LONG, park).await;
        });
        begun.await.unwrap();
        (painter, go, caller)
    }

    #[tokio::test]
    async fn a_caller_who_leaves_takes_the_picture_along() {
        let (painter, go, _caller) = parked().await;
        let picture = Arc::new(vec![0u8; 1 << 20]);
        for lane in 2..10 {
            let (painter, picture) = (Arc::clone(&painter), Arc::clone(&picture));
            let before = painter.waiting();
            let waits = tokio::spawn({
                let painter = Arc::clone(&painter);
                async move { painter.submit(lane, 1.0, LONG, move |_, _| picture.len()).await.is_ok() }
            });
            while painter.waiting() == before {
                tokio::task::yield_now().await;
            }
            waits.abort();
            assert!(waits.await.is_err());
        }
        assert_eq!(Arc::strong_count(&picture), 1);
        go.send(()).unwrap();
        assert_eq!(painter.submit(1, 1.0, LONG, |_, _| 7).await.unwrap().result, 7);
    }

    #[tokio::test]
    async fn ending_does_not_wait_for_ever_for_a_job() {
        let (painter, go, caller) = parked().await;
        caller.abort();
        assert!(caller.await.is_err());
        let begun = Instant::now();
        drop(Arc::try_unwrap(painter).ok().expect("the only hold on it"));
        assert!(begun.elapsed() < FAREWELL * 3, "{:?}", begun.elapsed());
        drop(go);
    }

    #[tokio::test]
    async fn closing_refuses_what_waits_and_what_comes() {
        let painter = Arc::new(painter(1));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        let first = tokio::spawn({
            let painter = Arc::clone(&painter);
            async move {
                painter
                    .submit(1, 1.0, LONG, move |_, _| {
                        let _ = began.send(());
                        let _ = gate.recv();
                    })
                    .await
                    .is_ok()
            }
        });
        begun.await.unwrap();
        let second = tokio::spawn({
            let painter = Arc::clone(&painter);
            async move { painter.submit(2, 1.0, LONG, |_, _| ()).await.map(|_| ()).unwrap_err().reason }
        });
        while painter.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        painter.close();
        assert_eq!(second.await.unwrap(), "busy");
        assert_eq!(painter.submit(3, 1.0, LONG, |_, _| ()).await.map(|_| ()).unwrap_err().reason, "busy");
        go.send(()).unwrap();
        assert!(first.await.unwrap());
    }
}
