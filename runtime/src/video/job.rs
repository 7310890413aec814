//! The whole way of a video: checked beforehand, through the stages, to a whole file under its name.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use impasto_checkpoints::temporary_beside;
use tempfile::TempPath;

use super::container::{Codec, Container, VideoEncoder, WRITABLE};
use super::decode::{Decoder, Frames, failed};
use super::encode::{Cut, Encoder, Recipe, cut_copy};
use super::error::VideoError;
use super::ffmpeg::{Ended, Running, Tools, file_argument};
use super::pipeline::{Flow, Paint, Pipeline, Timed, timed};
use super::probe::{Kind, Source};
use super::stop::{Stop, Watch};
use crate::picture::fit_longer_side;
use crate::{Frame, RuntimeError};

/// What is to become of a video besides being painted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VideoOptions {
    /// Decode so that the longer side has this many pixels.
    pub size: Option<usize>,
    /// Codec; `None`: H.264, or VP9 in `.webm`.
    pub codec: Option<Codec>,
    /// The codec's constant rate factor, 0 the best; `None`: one that is hard to tell from the source.
    pub quality: Option<u8>,
    /// The encoder's own name for how hard it tries.
    pub preset: Option<String>,
    /// Begin with the first frame at or after this many seconds from the file's beginning.
    pub start: Option<f64>,
    /// End after this many seconds.
    pub duration: Option<f64>,
}

/// How a job went.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Frames painted.
    pub frames: u64,
    /// Width of the result in pixels.
    pub width: usize,
    /// Height of the result in pixels.
    pub height: usize,
    /// Seconds from the first frame to the end of the last.
    pub seconds: f64,
    /// Seconds that the job took.
    pub wall_seconds: f64,
    /// What decoding took.
    pub decode: Stage,
    /// What painting took.
    pub paint: Stage,
    /// What encoding took.
    pub encode: Stage,
    /// It was ended before the source was.
    pub interrupted: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What one of the three stages took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stage {
    /// Seconds in which the stage did not wait for another one of this program: for decoding and encoding, those in
    /// which the pipe from or to ffmpeg was read or written.
    pub busy_seconds: f64,
    /// Processor seconds of its ffmpeg, all threads together; `None` for painting and where the system does not tell.
    pub cpu_seconds: Option<f64>,
}

impl Report {
    /// Frames painted in a second of the clock.
    pub fn fps(&self) -> f64 {
        self.frames as f64 / self.wall_seconds.max(1e-9)
    }
}

/// A video to paint, with everything checked that can be checked beforehand.
#[derive(Debug)]
pub struct Job<'a> {
    tools: &'a Tools,
    source: &'a Source,
    output: PathBuf,
    options: VideoOptions,
    container: Container,
    encoder: Option<VideoEncoder>,
    size: (usize, usize),
}

impl<'a> Job<'a> {
    /// Checks that the result can be made.
    ///
    /// # Errors
    /// [`VideoError::Output`] for an extension that is no container, and for a folder; [`VideoError::Option`] for a
    /// codec or quality that is not to be had, or a start after the source's end.
    pub fn new(
        tools: &'a Tools,
        source: &'a Source,
        output: &Path,
        options: VideoOptions,
    ) -> Result<Self, VideoError> {
        let container = Container::from_path(output)?;
        if output.is_dir() {
            return Err(VideoError::Output {
                path: output.display().to_string(),
                reason: format!("is a folder; expected the name of a file ({WRITABLE})"),
            });
        }
        let encoder = VideoEncoder::choose(tools, container, options.codec, options.quality)?;
        let length = source.video.end_seconds().map(|end| end - source.start_seconds);
        if let (Some(start), Some(length)) = (options.start, length)
            && start >= length
        {
            return Err(VideoError::Option(format!(
                "--start {start}: {} ends after {length:.3} seconds; expected less",
                source.path().display()
            )));
        }
        let (mut width, mut height) = (source.video.width, source.video.height);
        if let Some(size) = options.size {
            let even = encoder.is_some_and(|encoder| encoder.wants_even_sides());
            (width, height) = fit_longer_side(width, height, size);
            // The side that follows from the other is rounded to an even one; nothing need be repeated then.
            let shorter = if width < height { &mut width } else { &mut height };
            *shorter = if even { shorter.next_multiple_of(2) } else { *shorter };
        }
        let (output, size) = (output.to_path_buf(), (width, height));
        Ok(Job { tools, source, output, options, container, encoder, size })
    }

    /// How many frames there will be, roughly, for a progress bar.
    pub fn expected_frames(&self) -> u64 {
        let video = &self.source.video;
        let all = video.packets.count;
        let (Some(end), true) = (video.end_seconds(), all > 0) else { return all };
        let length = (end - self.source.start_seconds).max(1e-3);
        let start = self.options.start.unwrap_or(0.0);
        let part = self.options.duration.map_or(length - start, |duration| duration.min(length - start));
        ((all as f64 * part / length).round() as u64).clamp(1, all)
    }

    /// Paints the video. `paint` gets each frame and fills another with the painting, whose size may differ but must
    /// stay the same; `progress` is told of the frames that are painted.
    ///
    /// The result appears under its name when it is whole, frames counted.
    ///
    /// # Errors
    /// [`VideoError`]: nothing is left then. [`VideoError::Stopped`] after [`Stop::abandon`], or when it was to
    /// finish before there was a frame.
    pub fn run(
        &self,
        paint: &mut dyn FnMut(&Frame, &mut Frame) -> Result<(), RuntimeError>,
        progress: &(dyn Fn(u64) + Sync),
        stop: &Stop,
    ) -> Result<Report, VideoError> {
        let mut paint = paint;
        self.run_with(&mut paint, progress, stop)
    }

    /// As [`Job::run`], for what can start on a frame before the one before it is done.
    ///
    /// # Errors
    /// As for [`Job::run`].
    pub fn run_with(
        &self,
        paint: &mut dyn Paint,
        progress: &(dyn Fn(u64) + Sync),
        stop: &Stop,
    ) -> Result<Report, VideoError> {
        if stop.is_asked() {
            return Err(VideoError::Stopped);
        }
        Watch::during(stop, |watch| self.run_watched(paint, progress, watch))
    }

    fn run_watched(
        &self,
        paint: &mut dyn Paint,
        progress: &(dyn Fn(u64) + Sync),
        watch: &Watch<'_>,
    ) -> Result<Report, VideoError> {
        let (started, stop) = (Instant::now(), watch.stop);
        let temporary = self.temporary()?;
        let decoder = Decoder::start(self.tools, self.source, self.options.start, self.size)?;
        watch.add(&decoder.running);
        // The first frame and its painting say what the encoder is to expect.
        let (mut frame, mut painted) = (Frame::black(1, 1), Frame::black(1, 1));
        let (mut read, mut painting) = (Duration::ZERO, Duration::ZERO);
        let first = timed(&mut read, || {
            let mut frames = decoder.frames()?;
            Ok(frames.next(&mut frame)?.map(|pts| (frames, pts)))
        });
        let (frames, first) = match first {
            Ok(Some(first)) => first,
            Ok(None) => return Err(self.nothing_decoded(&decoder.running, stop)),
            Err(error) => return Err(self.decoding_failed(&decoder.running, error, stop)),
        };
        timed(&mut painting, || paint.paint(&frame, &mut painted))
            .map_err(|error| stopped_or(error, stop))?;
        let begin = decoder.zero + self.source.video.time_base.seconds(first);
        let recipe = self.recipe(&frames, &painted, begin)?;
        let Encoder { running: encoder, sink } = Encoder::start(self.tools, &recipe, &temporary)?;
        watch.add(&encoder);

        let pipeline = Pipeline {
            // With a cut, and in GIF, time begins with the first frame.
            origin: if recipe.cut.is_some() || self.container == Container::Gif { first } else { 0 },
            end: self.end_ticks(first),
            decoder: &decoder.running,
            encoder: &encoder,
            stop,
            progress,
        };
        let mut flow = pipeline.run(frames, sink, Timed { pts: first, frame }, painted, paint);
        flow.read += read;
        flow.painting += painting;
        if let Some(error) = flow.paint_error.take() {
            return Err(stopped_or(error, stop));
        }
        let (decoded, encoded) = self.ends(&mut flow, (&decoder.running, &encoder), &temporary, stop)?;
        self.finish(flow, &recipe, first, temporary, (&decoded, &encoded), watch, started)
    }

    /// Waits for both programs after the last frame, and makes errors of what went wrong.
    fn ends(
        &self,
        flow: &mut Flow,
        (decoder, encoder): (&Running, &Running),
        temporary: &Path,
        stop: &Stop,
    ) -> Result<(Ended, Ended), VideoError> {
        // The encoder first: should it have died, that is the reason for everything else.
        let mut encoded = encoder.wait().map_err(|error| self.cannot_write(error))?;
        if stop.is_abandoned() {
            return Err(VideoError::Stopped);
        }
        let (name, output) = (format!("file:{}", temporary.display()), self.output.display().to_string());
        encoded.last_words = encoded.last_words.replace(&name, &output);
        match flow.write_error.take() {
            Some(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                return Err(self.cannot_write(error));
            }
            None if encoded.status.success() => {}
            _ => return Err(failed(&self.output, "encode", &encoded)),
        }
        let decoded = decoder.wait().map_err(|error| self.cannot_write(error))?;
        if !flow.left_early {
            match flow.read_error.take() {
                Some(error) if is_nonsense(&error) => return Err(error),
                _ if !decoded.status.success() => return Err(failed(self.source.path(), "decode", &decoded)),
                Some(error) => return Err(error),
                None => {}
            }
        }
        Ok((decoded, encoded))
    }

    fn cannot_write(&self, source: std::io::Error) -> VideoError {
        VideoError::Io { action: "write", path: self.output.clone(), source }
    }

    /// After both programs' ends: the sound's end, the count, the name.
    #[allow(clippy::too_many_arguments, reason = "the one caller's state, taken apart for length only")]
    fn finish(
        &self,
        flow: Flow,
        recipe: &Recipe<'_>,
        first: i64,
        mut temporary: TempPath,
        (decoded, encoded): (&Ended, &Ended),
        watch: &Watch<'_>,
        started: Instant,
    ) -> Result<Report, VideoError> {
        let video = &self.source.video;
        let shown = video.frame_rate.map_or(0.0, |rate| rate.inverse().value());
        let whole = video.packets.last == Some(flow.last);
        let shown =
            video.packets.last_duration.filter(|_| whole).map_or(shown, |d| video.time_base.seconds(d));
        let end = video.time_base.seconds(flow.last) + shown;
        let interrupted = flow.asked && !whole;
        let has_more = self.source.others.iter().any(|o| matches!(o.kind, Kind::Audio | Kind::Subtitle));
        if interrupted && has_more && self.container != Container::Gif {
            let end = end - video.time_base.seconds(flow.origin);
            temporary = self.cut_sound(temporary, end, watch)?;
        }
        self.count(&temporary, flow.frames - flow.dropped)?;
        let synced = std::fs::File::open(&temporary).and_then(|file| file.sync_all());
        synced.map_err(|error| self.cannot_write(error))?;
        temporary.persist(&self.output).map_err(|error| self.cannot_write(error.error))?;
        let mut notes = recipe.notes();
        self.other_notes(&flow, decoded, &mut notes);
        let (width, height) = recipe.size();
        Ok(Report {
            frames: flow.frames,
            width,
            height,
            seconds: end - video.time_base.seconds(first),
            wall_seconds: started.elapsed().as_secs_f64(),
            decode: Stage { busy_seconds: flow.read.as_secs_f64(), cpu_seconds: decoded.cpu_seconds },
            paint: Stage { busy_seconds: flow.painting.as_secs_f64(), cpu_seconds: None },
            encode: Stage { busy_seconds: flow.written.as_secs_f64(), cpu_seconds: encoded.cpu_seconds },
            interrupted,
            notes,
        })
    }

    fn other_notes(&self, flow: &Flow, decoded: &Ended, notes: &mut Vec<String>) {
        let video = &self.source.video;
        if video.is_deep() {
            notes.push(format!(
                "more than 8 bits a colour in the source ({}), painted with 8",
                video.pixel_format
            ));
        }
        if video.transparent {
            notes.push("transparent source: painted without its transparency".to_string());
        }
        if video.interlaced {
            notes.push("interlaced source: its fields are made into whole frames".to_string());
        }
        if flow.dropped > 0 {
            let reason = match self.container {
                Container::Gif => ".gif counts hundredths of a second",
                _ => "their time is not after that of the frame before",
            };
            notes.push(format!("{} frames left out: {reason}", flow.dropped));
        }
        if !flow.left_early && !decoded.last_words.is_empty() {
            notes.push(format!(
                "{}: ffmpeg complained while it decoded; what it could read is painted: {}",
                self.source.path().display(),
                decoded.last_words
            ));
        }
    }

    /// `begin`: the first frame's time, in seconds after the file's beginning.
    fn recipe(&self, frames: &Frames, painted: &Frame, begin: f64) -> Result<Recipe<'_>, VideoError> {
        let header = frames.header().ok_or(VideoError::Stopped)?;
        let part = self.options.start.is_some() || self.options.duration.is_some();
        // A joined file has no one clock that the result could keep.
        let cut = (part || self.source.is_joined())
            .then(|| Cut { start: begin.max(0.0), duration: self.options.duration });
        Ok(Recipe {
            source: self.source,
            output: &self.output,
            container: self.container,
            encoder: self.encoder,
            quality: self.options.quality,
            preset: self.options.preset.as_deref(),
            frames: super::StreamHeader { width: painted.width(), height: painted.height(), ..header },
            cut,
        })
    }

    /// The timestamp at which it ends; frames from there on are not painted.
    fn end_ticks(&self, first: i64) -> Option<i64> {
        let duration = self.options.duration?;
        let ticks = (duration / self.source.video.time_base.value()).round();
        Some(first.saturating_add(ticks as i64))
    }

    /// A file beside the result, that goes when it is not wanted any more.
    fn temporary(&self) -> Result<TempPath, VideoError> {
        let suffix = format!(".part.{}", self.container.extension());
        let file = temporary_beside(&self.output, &suffix);
        Ok(file.map_err(|error| self.cannot_write(error))?.into_temp_path())
    }

    /// Copies the streams up to `seconds` into another temporary file.
    fn cut_sound(&self, from: TempPath, seconds: f64, watch: &Watch<'_>) -> Result<TempPath, VideoError> {
        let to = self.temporary()?;
        let running = Running::start(cut_copy(self.tools, self.container, &from, &to, seconds));
        let running = Arc::new(running.map_err(|error| self.cannot_write(error))?);
        watch.add(&running);
        let ended = running.wait().map_err(|error| self.cannot_write(error))?;
        match ended.status.success() {
            _ if watch.stop.is_abandoned() => Err(VideoError::Stopped),
            true => Ok(to),
            false => Err(failed(&self.output, "encode", &ended)),
        }
    }

    /// Checks that the file holds as many frames as were painted: a full disk does not always make ffmpeg fail.
    fn count(&self, file: &Path, expected: u64) -> Result<(), VideoError> {
        let mut command = self.tools.ffprobe();
        command.args(["-count_packets", "-select_streams", "v:0", "-show_entries", "stream=nb_read_packets"]);
        command.args(["-of", "csv=p=0"]).arg(file_argument(file));
        let output = command.output();
        let output = output.map_err(|source| VideoError::Io { action: "read", path: file.into(), source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let found = text.trim().trim_end_matches(',').parse::<u64>();
        if found == Ok(expected) {
            return Ok(());
        }
        let found = found.map_or("none that can be read".to_string(), |found| found.to_string());
        Err(VideoError::Output {
            path: self.output.display().to_string(),
            reason: format!("the video holds {found} of {expected} frames; hint: is the disk full?"),
        })
    }

    /// No frame came, and no error in the pipe: what ffmpeg said is the reason.
    fn nothing_decoded(&self, decoder: &Running, stop: &Stop) -> VideoError {
        match decoder.wait() {
            _ if stop.is_abandoned() => VideoError::Stopped,
            Ok(ended) if ended.status.success() => VideoError::Source {
                path: self.source.path().display().to_string(),
                reason: match ended.last_words.as_str() {
                    "" => "no frame to paint; expected one or more".to_string(),
                    words => format!("no frame could be decoded: {words}"),
                },
            },
            Ok(ended) => failed(self.source.path(), "decode", &ended),
            Err(source) => VideoError::Io { action: "read", path: self.source.path().into(), source },
        }
    }

    /// The pipe broke off: if ffmpeg failed that is why.
    fn decoding_failed(&self, decoder: &Running, error: VideoError, stop: &Stop) -> VideoError {
        if stop.is_abandoned() {
            return VideoError::Stopped;
        }
        if is_nonsense(&error) {
            return error;
        }
        match decoder.wait() {
            Ok(ended) if !ended.status.success() => failed(self.source.path(), "decode", &ended),
            _ => error,
        }
    }
}

/// Whether the pipe carried something else than frames: ffmpeg's own failure is then that nobody listened any more.
fn is_nonsense(error: &VideoError) -> bool {
    matches!(error, VideoError::Pipe { source, .. } if source.kind() == std::io::ErrorKind::InvalidData)
}

/// A painting that was stopped because the job was is no failure of the painting.
fn stopped_or(error: RuntimeError, stop: &Stop) -> VideoError {
    if stop.is_abandoned() { VideoError::Stopped } else { error.into() }
}
