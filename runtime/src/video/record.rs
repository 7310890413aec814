//! Frames to a video file as they come, stamped with the clock: for recording what a camera's painting showed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::decode::failed;
use super::encode::pad;
use super::error::VideoError;
use super::ffmpeg::{Running, Tools, file_argument};
use super::nut::{NutWriter, StreamHeader};
use super::time::Ratio;
use crate::Frame;
use crate::picture::resize_frame;

/// Frames that wait for the encoder; more are dropped, so that a slow encoder does not hold up the picture.
const WAITING: usize = 4;

/// A recording under way. Dropped without [`Recorder::finish`], it is finished and its errors are lost.
#[derive(Debug)]
pub struct Recorder {
    frames: Option<SyncSender<(i64, Frame)>>,
    worker: Option<JoinHandle<Result<(), VideoError>>>,
    began: Instant,
    last: i64,
    size: (usize, usize),
    path: PathBuf,
}

impl Recorder {
    /// Starts a recording in H.264 (`.mp4`) of frames of this size; the file must not exist.
    ///
    /// # Errors
    /// [`VideoError::Output`] when the file exists or ffmpeg cannot be started.
    pub fn start(tools: &Tools, path: &Path, size: (usize, usize)) -> Result<Self, VideoError> {
        let cannot = |reason: String| VideoError::Output { path: path.display().to_string(), reason };
        if path.symlink_metadata().is_ok() {
            return Err(cannot("exists already; hint: another name".to_owned()));
        }
        let (width, height) = (size.0.next_multiple_of(2), size.1.next_multiple_of(2));
        // Milliseconds: finer than any screen.
        let time_base = Ratio::new(1, 1000).ok_or_else(|| cannot("no time base".to_owned()))?;
        let mut command = tools.ffmpeg();
        command.args([
            "-n", "-f", "nut", "-i", "pipe:0", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18",
        ]);
        command.args(["-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]);
        // In fragments, so that what was recorded is playable whatever ends the recording.
        command.args(["-movflags", "+frag_keyframe+empty_moov", "-f", "mp4"]).arg(file_argument(path));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let running =
            Running::start(command).map_err(|error| cannot(format!("ffmpeg cannot be started: {error}")))?;
        let stdin = running.take_stdin().ok_or_else(|| cannot("ffmpeg takes no input".to_owned()))?;
        let (frames, waiting) = sync_channel::<(i64, Frame)>(WAITING);
        let output = path.to_path_buf();
        let worker = std::thread::spawn(move || {
            let header = StreamHeader { width, height, time_base, sample_aspect: None };
            let write = || -> std::io::Result<()> {
                let mut writer = NutWriter::new(stdin, &header, None)?;
                let mut padded = Frame::black(width, height);
                for (at, frame) in waiting {
                    pad(&frame, &mut padded);
                    writer.frame(at, padded.rgb())?;
                }
                Ok(())
            };
            let written = write(); // and the pipe is closed, which ends ffmpeg
            let ended = running.wait().map_err(|source| VideoError::Io {
                action: "write",
                path: output.clone(),
                source,
            })?;
            if !ended.status.success() || written.is_err() {
                return Err(failed(&output, "encode", &ended));
            }
            Ok(())
        });
        Ok(Recorder {
            frames: Some(frames),
            worker: Some(worker),
            began: Instant::now(),
            last: -1,
            size,
            path: path.to_path_buf(),
        })
    }

    /// Adds a frame, as of now; one of another size is resized. `false` when the encoder was not ready for it.
    ///
    /// # Errors
    /// The encoder's, when it has ended.
    pub fn add(&mut self, frame: &Frame) -> Result<bool, VideoError> {
        let Some(frames) = &self.frames else { return Ok(false) };
        let at = (self.began.elapsed().as_millis() as i64).max(self.last + 1);
        let frame = if (frame.width(), frame.height()) == self.size {
            frame.clone()
        } else {
            resize_frame(frame, self.size.0, self.size.1)?
        };
        match frames.try_send((at, frame)) {
            Ok(()) => {
                self.last = at;
                Ok(true)
            }
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Disconnected(_)) => self.end().map(|()| false),
        }
    }

    /// Ends the recording and waits until the file is whole.
    ///
    /// # Errors
    /// [`VideoError::Ffmpeg`] with its last words.
    pub fn finish(mut self) -> Result<PathBuf, VideoError> {
        self.end()?;
        Ok(self.path.clone())
    }

    fn end(&mut self) -> Result<(), VideoError> {
        self.frames = None;
        let Some(worker) = self.worker.take() else { return Ok(()) };
        worker.join().unwrap_or_else(|_| {
            Err(VideoError::Output {
                path: self.path.display().to_string(),
                reason: "the recording broke off".into(),
            })
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
