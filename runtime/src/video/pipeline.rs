//! The three stages of a job at work, each on a thread of its own, with buffers that go round.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::decode::Frames;
use super::encode::Sink;
use super::error::VideoError;
use super::ffmpeg::Running;
use super::stop::Stop;
use crate::{Frame, RuntimeError};

/// Frames that wait between two stages: enough that a short stop of one does not stop the other.
const WAITING: usize = 2;
/// A frame on its way, with its timestamp in ticks of the source's time base.
pub(super) struct Timed {
    pub pts: i64,
    pub frame: Frame,
}

/// What paints the frames of a video, one after the other.
pub trait Paint {
    /// Paints a frame into another, whose size it sets.
    ///
    /// # Errors
    /// Whatever keeps it from painting; the video ends there.
    fn paint(&mut self, frame: &Frame, painted: &mut Frame) -> Result<(), RuntimeError>;

    /// Starts on a frame that [`Paint::paint`] gets later, in this order; `false`: that would gain nothing.
    ///
    /// # Errors
    /// As for [`Paint::paint`].
    fn begin(&mut self, frame: &Frame) -> Result<bool, RuntimeError> {
        let _ = frame;
        Ok(false)
    }
}

impl<F: FnMut(&Frame, &mut Frame) -> Result<(), RuntimeError>> Paint for F {
    fn paint(&mut self, frame: &Frame, painted: &mut Frame) -> Result<(), RuntimeError> {
        self(frame, painted)
    }
}

/// What the decoding stage has for the painter.
enum Next {
    Frame(Timed),
    /// The source's end.
    End,
    /// The cut.
    Cut,
}

/// The three stages at work.
pub(super) struct Pipeline<'a> {
    /// Taken off every timestamp before it is written.
    pub origin: i64,
    /// Frames from this timestamp on are not painted.
    pub end: Option<i64>,
    pub decoder: &'a Running,
    pub encoder: &'a Running,
    pub stop: &'a Stop,
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// What came of it.
#[derive(Default)]
pub(super) struct Flow {
    pub frames: u64,
    pub dropped: u64,
    /// Timestamp of the last frame painted, on the source's clock, and what is taken off it.
    pub last: i64,
    pub origin: i64,
    /// The source was not read to its end, because of a stop, a cut or an error.
    pub left_early: bool,
    /// Because somebody asked.
    pub asked: bool,
    pub read: Duration,
    pub painting: Duration,
    pub written: Duration,
    pub read_error: Option<VideoError>,
    pub paint_error: Option<RuntimeError>,
    pub write_error: Option<std::io::Error>,
}

impl Pipeline<'_> {
    /// Sends the first frame and all that follow through the stages. Buffers go round: at most `WAITING` + 2 frames
    /// on either side are in memory.
    pub fn run(
        &self,
        mut frames: Frames,
        mut sink: Sink,
        first: Timed,
        painted: Frame,
        paint: &mut dyn Paint,
    ) -> Flow {
        let mut flow = Flow { last: first.pts, origin: self.origin, ..Flow::default() };
        let (to_paint, decoded) = sync_channel::<Timed>(WAITING);
        let (used, spare) = sync_channel::<Frame>(WAITING + 2);
        let (to_encode, ready) = sync_channel::<Timed>(WAITING);
        let (written, blank) = sync_channel::<Frame>(WAITING + 2);
        for _ in 0..WAITING + 1 {
            let _ = used.try_send(Frame::black(1, 1));
            let _ = written.try_send(Frame::black(1, 1));
        }
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || read_frames(&mut frames, &spare, &to_paint));
            let writing = scope.spawn(move || write_frames(&mut sink, &ready, &written));
            self.paint_frames(&mut flow, first, painted, paint, (decoded, &used), (to_encode, &blank));
            // Both ends of its channel are closed, or about to be: neither thread waits for ever.
            drop((used, blank));
            if flow.left_early {
                self.decoder.kill();
            }
            if let Ok((error, busy)) = reading.join() {
                (flow.read_error, flow.read) = (error, busy);
            }
            if let Ok((error, busy, dropped)) = writing.join() {
                (flow.write_error, flow.written, flow.dropped) = (error, busy, dropped);
            }
            if flow.paint_error.is_some() {
                self.encoder.kill();
            }
        });
        flow
    }

    fn paint_frames(
        &self,
        flow: &mut Flow,
        first: Timed,
        painted: Frame,
        paint: &mut dyn Paint,
        (decoded, used): (Receiver<Timed>, &SyncSender<Frame>),
        (to_encode, blank): (SyncSender<Timed>, &Receiver<Frame>),
    ) {
        let (mut in_hand, mut done) = (first, Some(painted));
        // Whether the frame in hand is on its way already.
        let mut begun = false;
        loop {
            // On a GPU, fetched before this one is painted: it goes up meanwhile.
            let mut ahead = None;
            let painted = match done.take() {
                Some(painted) => painted,
                None => {
                    let Ok(mut painted) = blank.recv() else { break flow.left_early = true };
                    let mut work = || -> Result<(), RuntimeError> {
                        let painting = &mut flow.painting;
                        if !begun {
                            begun = timed(painting, || paint.begin(&in_hand.frame))?;
                        }
                        if begun {
                            let next = self.next(&decoded);
                            begun = match &next {
                                Next::Frame(next) => timed(painting, || paint.begin(&next.frame))?,
                                Next::End | Next::Cut => false,
                            };
                            ahead = Some(next);
                        }
                        timed(painting, || paint.paint(&in_hand.frame, &mut painted))
                    };
                    if let Err(error) = work() {
                        flow.paint_error = Some(error);
                        break flow.left_early = true;
                    }
                    painted
                }
            };
            let Timed { pts, frame } = in_hand;
            if to_encode.send(Timed { pts: pts - self.origin, frame: painted }).is_err() {
                break flow.left_early = true; // the encoder is gone
            }
            flow.frames += 1;
            flow.last = pts;
            (self.progress)(flow.frames);
            let _ = used.try_send(frame);
            if self.stop.is_asked() {
                flow.asked = true;
                break flow.left_early = true;
            }
            match ahead.unwrap_or_else(|| self.next(&decoded)) {
                Next::Frame(next) => in_hand = next,
                Next::Cut => break flow.left_early = true,
                Next::End => break,
            }
        }
    }

    /// Waits for the next frame.
    fn next(&self, decoded: &Receiver<Timed>) -> Next {
        match decoded.recv() {
            Ok(next) if self.end.is_some_and(|end| next.pts >= end) => Next::Cut,
            Ok(next) => Next::Frame(next),
            Err(_) => Next::End,
        }
    }
}

/// The decoding stage: until the end, an error, or nobody wants more.
fn read_frames(
    frames: &mut Frames,
    spare: &Receiver<Frame>,
    to_paint: &SyncSender<Timed>,
) -> (Option<VideoError>, Duration) {
    let mut busy = Duration::ZERO;
    while let Ok(mut frame) = spare.recv() {
        match timed(&mut busy, || frames.next(&mut frame)) {
            Ok(Some(pts)) if to_paint.send(Timed { pts, frame }).is_ok() => {}
            Ok(_) => break,
            Err(error) => return (Some(error), busy),
        }
    }
    (None, busy)
}

/// The encoding stage: until no more frames come, or the pipe breaks. Closes the encoder's input at the end.
fn write_frames(
    sink: &mut Sink,
    ready: &Receiver<Timed>,
    written: &SyncSender<Frame>,
) -> (Option<std::io::Error>, Duration, u64) {
    let mut busy = Duration::ZERO;
    while let Ok(Timed { pts, frame }) = ready.recv() {
        if let Err(error) = timed(&mut busy, || sink.write(pts, &frame)) {
            return (Some(error), busy, sink.dropped());
        }
        let _ = written.try_send(frame);
    }
    (None, busy, sink.dropped())
}

/// Runs `work` and adds the time that it took.
pub(super) fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *total += started.elapsed();
    result
}
