//! A source's frames, upright, in RGB, with the source's own timestamps.

use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;

use super::error::VideoError;
use super::ffmpeg::{Ended, INPUT_PROTOCOLS, Running, Tools, file_argument};
use super::nut::{NutReader, StreamHeader};
use super::probe::Source;
use super::time::Ratio;
use crate::Frame;

/// Whole frames, as many as before and at the same times, of those that are two fields; others stay as they are.
const WHOLE_FRAMES: &str = "bwdif=mode=send_frame:deint=interlaced";

/// An ffmpeg that decodes a source into a pipe.
#[derive(Debug)]
pub(super) struct Decoder {
    pub running: Arc<Running>,
    /// What a timestamp of 0 means: so many seconds after the file's beginning.
    pub zero: f64,
    time_base: Ratio,
    path: String,
}

/// The frames that come out of the pipe.
#[derive(Debug)]
pub(super) struct Frames {
    reader: Option<NutReader<ChildStdout>>,
    time_base: Ratio,
    path: String,
}

impl Decoder {
    /// Starts decoding at `start` seconds after the file's beginning, to frames of `size`.
    ///
    /// # Errors
    /// [`VideoError::Source`] when ffmpeg cannot be started.
    pub fn start(
        tools: &Tools,
        source: &Source,
        start: Option<f64>,
        size: (usize, usize),
    ) -> Result<Self, VideoError> {
        let path = source.path().display().to_string();
        let mut command = tools.ffmpeg();
        let seek = start.map(|start| if source.seeks_exactly() { start } else { before(source, start) });
        let seek = seek.filter(|&seek| seek > 0.0);
        // Timestamps as they are in the file, none invented, none dropped. Those of a joined file begin anew at each
        // seam; there, ffmpeg lets each piece go on where the one before it ended, counting from where it began.
        let zero = if source.is_joined() {
            seek.unwrap_or(0.0)
        } else {
            command.arg("-copyts");
            -source.start_seconds
        };
        if let Some(seek) = seek {
            command.args(["-ss", &format!("{seek:.6}")]);
        }
        command.args(INPUT_PROTOCOLS).arg("-i").arg(file_argument(source.path()));
        let video = &source.video;
        let mut filters = video.color.yuv_to_rgb(video.coded_size(), size);
        if video.interlaced {
            filters = format!("{WHOLE_FRAMES},{filters}");
        }
        if let Some(start) = start.filter(|_| !source.seeks_exactly()) {
            filters = format!("trim=start={:.6},{filters}", start - zero);
        }
        command.args(["-map", &format!("0:{}", video.index), "-an", "-sn", "-dn", "-map_metadata", "-1"]);
        command.args(["-fps_mode", "passthrough", "-enc_time_base", &video.time_base.to_string()]);
        command.args(["-vf", &filters, "-c:v", "rawvideo", "-f", "nut", "pipe:1"]).stdout(Stdio::piped());
        let running = Running::start(command).map_err(|error| VideoError::Source {
            path: path.clone(),
            reason: format!("ffmpeg cannot be started: {error}"),
        })?;
        Ok(Decoder { running: Arc::new(running), zero, time_base: video.time_base, path })
    }

    /// Waits for what comes before the first frame.
    ///
    /// # Errors
    /// [`VideoError::Pipe`] when something else comes.
    pub fn frames(&self) -> Result<Frames, VideoError> {
        let path = self.path.clone();
        let reader = match self.running.take_stdout().map(NutReader::new) {
            Some(Ok(reader)) => Some(reader),
            // It ended before it had a frame to tell of. An error says why; without one there are no frames.
            Some(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => None,
            Some(Err(source)) => return Err(VideoError::Pipe { path, source }),
            None => None,
        };
        Ok(Frames { reader, time_base: self.time_base, path })
    }
}

impl Frames {
    /// What the frames are like; `None` when there are none.
    pub fn header(&self) -> Option<StreamHeader> {
        Some(StreamHeader { time_base: self.time_base, ..*self.reader.as_ref()?.header() })
    }

    /// Reads the next frame; gives its timestamp in ticks of the source's time base.
    ///
    /// # Errors
    /// [`VideoError::Pipe`] when the pipe ends within a frame or carries something else.
    pub fn next(&mut self, frame: &mut Frame) -> Result<Option<i64>, VideoError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let base = reader.header().time_base;
        let pts = reader
            .read_frame(frame)
            .map_err(|source| VideoError::Pipe { path: self.path.clone(), source })?;
        // ffmpeg writes NUT in a multiple of the source's time base, so this is exact.
        Ok(pts.map(|pts| base.rescale(pts, self.time_base)))
    }
}

/// Where to begin decoding, in seconds after the file's beginning, so that the frame at `start` is among what comes:
/// two key frames before it, since ffmpeg may begin with the one after. 0 or less: at the beginning.
fn before(source: &Source, start: f64) -> f64 {
    let gap =
        source.video.packets.longest_gap.map_or(f64::INFINITY, |gap| source.video.time_base.seconds(gap));
    start - 2.0 * gap - 1.0
}

/// An ffmpeg that ended with an error, as an error.
pub(super) fn failed(path: &Path, action: &'static str, ended: &Ended) -> VideoError {
    VideoError::Ffmpeg {
        path: path.display().to_string(),
        action,
        status: ended.status.to_string(),
        last_words: ended.told(),
    }
}
