//! A camera, a stream, a clip or a test pattern as it happens: always the newest frame, older ones dropped.
//!
//! Cameras are opened by ffmpeg (v4l2, AVFoundation, DirectShow), which users of video have anyway: no build needs
//! the system's camera headers or libclang, and every pixel format a camera speaks is converted. A frame is handed
//! over as soon as its last byte has come through the pipe.

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::VideoError;
use super::ffmpeg::{INPUT_PROTOCOLS, Running, Tools, file_argument};
use super::nut::NutReader;
use super::probe::Source;
use crate::Frame;

/// Where live frames come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveSource {
    /// A camera: its number, its device file or its name, as the system has it.
    Camera(String),
    /// A video file, at its own pace, over and over.
    Clip(PathBuf),
    /// An address that ffmpeg opens: `rtsp://…`, `http://…`.
    Stream(String),
    /// Moving bars and a counter.
    TestPattern,
}

impl FromStr for LiveSource {
    type Err = std::convert::Infallible;

    /// `camera`, `camera:1`, `camera:NAME`, `/dev/video0`, `test`, an address with `://`, or a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "camera" => LiveSource::Camera("0".to_owned()),
            "test" => LiveSource::TestPattern,
            _ => match text.strip_prefix("camera:") {
                Some(camera) => LiveSource::Camera(camera.to_owned()),
                None if text.starts_with("/dev/") => LiveSource::Camera(text.to_owned()),
                None if text.contains("://") => LiveSource::Stream(text.to_owned()),
                None => LiveSource::Clip(text.into()),
            },
        })
    }
}

impl fmt::Display for LiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiveSource::Camera(camera) if camera.starts_with("/dev/") => write!(f, "{camera}"),
            LiveSource::Camera(camera) => write!(f, "camera {camera}"),
            LiveSource::Clip(path) => write!(f, "{}", path.display()),
            LiveSource::Stream(address) => write!(f, "{address}"),
            LiveSource::TestPattern => write!(f, "test pattern"),
        }
    }
}

/// What is asked of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveOptions {
    /// Frames are no wider than this; a camera is asked for exactly this.
    pub width: usize,
    /// Frames are no higher than this; a camera is asked for exactly this.
    pub height: usize,
    /// Frames a second that a camera is asked for, and that a test pattern has.
    pub fps: u32,
}

/// A source that is running.
#[derive(Debug)]
pub struct Capture {
    running: Arc<Running>,
    slot: Arc<Slot>,
    reader: Option<JoinHandle<()>>,
    name: String,
}

/// What is known of a frame that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// When its last byte had come.
    pub at: Instant,
    /// Frames that have come so far.
    pub arrived: u64,
    /// Of these, frames that were replaced by newer ones before anybody took them.
    pub dropped: u64,
}

/// Where the newest frame waits.
#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    frame: Frame,
    /// When the waiting frame came; `None` when none waits.
    at: Option<Instant>,
    arrived: u64,
    dropped: u64,
    /// The source has ended, for this reason if it is known.
    ended: Option<Option<String>>,
}

impl Capture {
    /// Starts a source.
    ///
    /// # Errors
    /// [`VideoError::Source`] when ffmpeg cannot be started, or a file is no video. What else ffmpeg cannot open is told
    /// by [`Capture::take`].
    pub fn start(tools: &Tools, source: &LiveSource, options: LiveOptions) -> Result<Self, VideoError> {
        let failed = |reason: String| VideoError::Source { path: source.to_string(), reason };
        let mut command = tools.ffmpeg();
        input(source, options, &mut command).map_err(failed)?;
        let stream = match source {
            // What is wrong with a file is told here as for a video that is painted. A pipe is read only once.
            LiveSource::Clip(path) if path.is_file() || path.is_dir() => {
                format!("0:{}", Source::look(tools, path)?.video.index)
            }
            _ => "0:v:0".to_owned(),
        };
        let fit = format!(
            "scale=w={}:h={}:force_original_aspect_ratio=decrease:flags=bilinear,format=rgb24",
            options.width, options.height
        );
        command.args(["-map", &stream, "-vf", &fit, "-c:v", "rawvideo", "-fps_mode", "passthrough"]);
        // Without this the end of a frame would wait in a buffer for the beginning of the next one.
        command.args(["-flush_packets", "1", "-f", "nut", "pipe:1"]).stdout(Stdio::piped());
        let running = Arc::new(
            Running::start(command).map_err(|error| failed(format!("ffmpeg cannot be started: {error}")))?,
        );
        let slot = Arc::new(Slot {
            state: Mutex::new(State {
                frame: Frame::black(1, 1),
                at: None,
                arrived: 0,
                dropped: 0,
                ended: None,
            }),
            changed: Condvar::new(),
        });
        let reader = std::thread::spawn({
            let (running, slot) = (Arc::clone(&running), Arc::clone(&slot));
            move || {
                let read = read(&running, &slot);
                running.kill(); // after something that is no frame, nothing sensible comes
                let ended = running.wait().ok().filter(|ended| !ended.last_words.is_empty());
                let reason =
                    ended.map(|ended| ended.last_words).or(read.err().map(|error| error.to_string()));
                slot.lock().ended = Some(reason);
                slot.changed.notify_all();
            }
        });
        Ok(Capture { running, slot, reader: Some(reader), name: source.to_string() })
    }

    /// Waits for a frame that was not taken yet and swaps it with `frame`; `None` when none came within `patience`.
    ///
    /// # Errors
    /// [`VideoError::Source`] with ffmpeg's last words when the source has ended.
    pub fn take(&self, frame: &mut Frame, patience: Duration) -> Result<Option<Taken>, VideoError> {
        let until = Instant::now() + patience;
        let mut state = self.slot.lock();
        loop {
            if let Some(at) = state.at.take() {
                std::mem::swap(&mut state.frame, frame);
                return Ok(Some(Taken { at, arrived: state.arrived, dropped: state.dropped }));
            }
            if let Some(reason) = &state.ended {
                let what = if state.arrived == 0 { "no frame to paint" } else { "no more frames" };
                let reason = format!("{what}: {}", reason.as_deref().unwrap_or("it ended"));
                return Err(VideoError::Source { path: self.name.clone(), reason });
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let (waited, _) =
                self.slot.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = waited;
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.running.kill();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads frames into the slot until there are no more.
fn read(running: &Running, slot: &Slot) -> std::io::Result<()> {
    let Some(stdout) = running.take_stdout() else { return Ok(()) };
    let mut reader = NutReader::new(stdout)?;
    let mut frame = Frame::black(1, 1);
    while reader.read_frame(&mut frame)?.is_some() {
        let mut state = slot.lock();
        std::mem::swap(&mut state.frame, &mut frame);
        state.arrived += 1;
        state.dropped += u64::from(state.at.is_some());
        state.at = Some(Instant::now());
        drop(state);
        slot.changed.notify_all();
    }
    Ok(())
}

/// The input's arguments; an error where this system cannot name such a source.
fn input(source: &LiveSource, options: LiveOptions, command: &mut Command) -> Result<(), String> {
    let size = format!("{}x{}", options.width, options.height);
    let rate = options.fps.to_string();
    command.args(["-fflags", "nobuffer", "-flags", "low_delay"]);
    match source {
        LiveSource::Camera(camera) => {
            let (format, device) = device(camera)?;
            command.args(["-f", format, "-framerate", &rate, "-video_size", &size, "-i", &device]);
        }
        LiveSource::Clip(path) => {
            if !path.exists() {
                return Err("no such file; hint: camera, camera:1, test, a file or an address".to_owned());
            }
            command
                .args(["-re", "-stream_loop", "-1"])
                .args(INPUT_PROTOCOLS)
                .arg("-i")
                .arg(file_argument(path));
        }
        LiveSource::Stream(address) => {
            command.args(["-i", address]); // it holds `://`, so it is no option
        }
        LiveSource::TestPattern => {
            command.args(["-re", "-f", "lavfi", "-i", &format!("testsrc2=size={size}:rate={rate}")]);
        }
    }
    Ok(())
}

/// ffmpeg's format and name of a camera.
#[cfg(target_os = "linux")]
fn device(camera: &str) -> Result<(&'static str, String), String> {
    let device = if camera.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("/dev/video{camera}")
    } else {
        camera.to_owned()
    };
    if std::path::Path::new(&device).exists() {
        return Ok(("v4l2", device));
    }
    Err(format!(
        "no camera at {device}; hint: --source test, --source clip.mp4, or plug one in (ls /dev/video*)"
    ))
}

/// ffmpeg's format and name of a camera.
#[cfg(target_os = "macos")]
fn device(camera: &str) -> Result<(&'static str, String), String> {
    Ok(("avfoundation", format!("{camera}:none")))
}

/// ffmpeg's format and name of a camera.
#[cfg(windows)]
fn device(camera: &str) -> Result<(&'static str, String), String> {
    if camera.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            "cameras have names here, not numbers; hint: ffmpeg -list_devices true -f dshow -i dummy \
                    lists them, then --source \"camera:NAME\""
                .to_owned(),
        );
    }
    Ok(("dshow", format!("video={camera}")))
}

/// ffmpeg's format and name of a camera.
#[cfg(not(any(windows, target_os = "macos", target_os = "linux")))]
fn device(camera: &str) -> Result<(&'static str, String), String> {
    Err(format!("camera {camera}: not known on this system; hint: --source with a file or an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_by_their_looks() {
        let parse = |text: &str| text.parse::<LiveSource>().unwrap();
        assert_eq!(parse("camera"), LiveSource::Camera("0".into()));
        assert_eq!(parse("camera:HD Webcam"), LiveSource::Camera("HD Webcam".into()));
        assert_eq!(parse("/dev/video2"), LiveSource::Camera("/dev/video2".into()));
        assert_eq!(parse("test"), LiveSource::TestPattern);
        assert_eq!(parse("rtsp://host/1"), LiveSource::Stream("rtsp://host/1".into()));
        assert_eq!(parse("-i.mp4"), LiveSource::Clip("-i.mp4".into()));
    }
}
