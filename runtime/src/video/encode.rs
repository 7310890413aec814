//! Painted frames to a video file, with the source's sound, subtitles, chapters and metadata beside them.

use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;

use super::container::{Container, Fate, VideoEncoder};
use super::decode::failed;
use super::error::VideoError;
use super::ffmpeg::{INPUT_PROTOCOLS, Running, Tools, file_argument};
use super::nut::{NutWriter, StreamHeader};
use super::probe::{Kind, Source};
use super::time::Ratio;
use crate::Frame;

/// What the encoder is to make of the frames.
#[derive(Debug)]
pub(super) struct Recipe<'a> {
    pub source: &'a Source,
    /// The result as the user named it, for messages.
    pub output: &'a Path,
    pub container: Container,
    /// `None`: GIF.
    pub encoder: Option<VideoEncoder>,
    pub quality: Option<u8>,
    pub preset: Option<&'a str>,
    /// What the frames are like that will come, with the time base of their timestamps.
    pub frames: StreamHeader,
    /// Where the result begins and how long it is; `None`: the whole source on its own clock.
    pub cut: Option<Cut>,
}

/// A part of the source, in seconds after the file's beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub start: f64,
    pub duration: Option<f64>,
}

/// An ffmpeg that encodes what comes through a pipe.
#[derive(Debug)]
pub(super) struct Encoder {
    pub running: Arc<Running>,
    pub sink: Sink,
}

/// Where the frames go.
#[derive(Debug)]
pub(super) struct Sink {
    writer: NutWriter<ChildStdin>,
    /// From the time base of the frames to that of the pipe.
    from: Ratio,
    to: Ratio,
    last: Option<i64>,
    dropped: u64,
    /// The frame with its sides made even, where they have to be.
    padded: Option<Frame>,
}

/// The arrangements of loudspeakers that Opus knows: of the others, such as AC-3's 5.1 with speakers at the sides, it
/// gets the nearest.
const OPUS_LAYOUTS: &str = "aformat=channel_layouts=mono|stereo|3.0|quad|5.0|5.1|6.1|7.1";

impl Recipe<'_> {
    /// Width and height of the result: even where the codec wants that.
    pub fn size(&self) -> (usize, usize) {
        let even = self.encoder.is_some_and(|encoder| encoder.wants_even_sides());
        let side = |side: usize| if even { side.next_multiple_of(2) } else { side };
        (side(self.frames.width), side(self.frames.height))
    }

    /// GIF counts hundredths of a second, and so does the pipe then.
    fn pipe_time_base(&self) -> Ratio {
        let hundredth = Ratio::new(1, 100).filter(|_| self.container == Container::Gif);
        hundredth.unwrap_or(self.frames.time_base)
    }

    fn arguments(&self, command: &mut Command) {
        let source = self.source;
        if self.cut.is_none() {
            command.arg("-copyts");
        }
        command.args(["-f", "nut", "-i", "pipe:0"]);
        if self.container != Container::Gif {
            if let Some(Cut { start, duration }) = self.cut {
                command.args(["-ss", &format!("{start:.6}")]);
                if let Some(duration) = duration {
                    command.args(["-t", &format!("{duration:.6}")]);
                }
            }
            command.args(INPUT_PROTOCOLS).arg("-i").arg(file_argument(source.path()));
        }
        let filters = source.video.color.for_result(&source.video.pixel_format).rgb_to_yuv(self.size());
        match &self.encoder {
            None => self.gif(command),
            Some(encoder) => {
                command.args(["-map", "0:v:0", "-vf", &filters]);
                command.args(encoder.arguments(self.quality, self.preset));
                self.codec_details(encoder, command);
                self.streams(command);
            }
        }
        if let Some(duration) = self.cut.and_then(|cut| cut.duration) {
            // Again: of the input it does not hold for chapters, nor for subtitles that are converted.
            command.args(["-t", &format!("{duration:.6}")]);
        }
        command.args(["-fps_mode", "passthrough", "-enc_time_base", &self.pipe_time_base().to_string()]);
        if matches!(self.container, Container::Mp4 | Container::Mov) {
            command.args(["-movflags", "+faststart"]);
            command.args(["-video_track_timescale", &self.frames.time_base.den().to_string()]);
        }
        command.args(["-f", self.container.muxer()]);
    }

    fn codec_details(&self, encoder: &VideoEncoder, command: &mut Command) {
        let iso = matches!(self.container, Container::Mp4 | Container::Mov);
        if encoder.name == "libx265" {
            // It takes the time base for the frame rate, and its decisions with it, unless told.
            let rate = self.source.video.frame_rate.map_or(String::new(), |rate| format!(":fps={rate}"));
            command.args(["-x265-params", &format!("log-level=error{rate}")]);
            if iso {
                command.args(["-tag:v", "hvc1"]); // Apple's players want this one of two names
            }
        }
        let packets = self.source.video.packets;
        if let (None, Some(last), Some(shown)) = (self.cut, packets.last, packets.last_duration) {
            // Each frame lasts until the next one; how long the last one does (the last to be shown, and the last
            // in the file, whose duration .mp4 counts), only the source says.
            let index = packets.count.saturating_sub(1);
            let duration =
                format!("setts=pts=PTS:dts=DTS:duration='if(eq(PTS,{last})+eq(N,{index}),{shown},DURATION)'");
            command.args(["-bsf:v", &duration]);
        }
        for (name, value) in &self.source.video.tags {
            command.args(["-metadata:s:v:0", &format!("{name}={value}")]);
        }
    }

    /// Sound, subtitles, attachments, chapters, metadata.
    fn streams(&self, command: &mut Command) {
        command.args(["-map_metadata", "1", "-map_chapters", "1"]);
        let mut counts = [0, 0, 0];
        for stream in &self.source.others {
            let (letter, count) = match stream.kind {
                Kind::Audio => ("a", &mut counts[0]),
                Kind::Subtitle => ("s", &mut counts[1]),
                Kind::Attachment => ("t", &mut counts[2]),
                Kind::Video | Kind::Other => continue,
            };
            let codec = match self.container.fate(stream) {
                Fate::LeaveOut => continue,
                Fate::Copy => "copy",
                Fate::Convert(encoder) => encoder,
            };
            command.args(["-map", &format!("1:{}", stream.index)]);
            command.args([&format!("-c:{letter}:{count}"), codec]);
            match codec {
                "libopus" => {
                    command.args([&format!("-filter:a:{count}"), OPUS_LAYOUTS]);
                }
                // Until FFmpeg 6 it counted as an experiment.
                "copy" if self.container == Container::Mp4 && stream.codec == "flac" => {
                    command.args(["-strict", "experimental"]);
                }
                _ => {}
            }
            if stream.kind == Kind::Subtitle && self.cut.is_some() {
                // Those from between the key frame before the cut and the cut: all streams would begin with them.
                command.args([&format!("-bsf:s:{count}"), r"noise=drop=lt(pts\,0)"]);
            }
            if stream.kind == Kind::Audio && self.cut.is_some() {
                // Packets before the cut are left out instead of being hidden by an edit list.
                command.args([&format!("-copypriorss:a:{count}"), "0"]);
            }
            *count += 1;
        }
    }

    /// One palette a frame: in constant memory, and each frame gets its own 256 colours.
    fn gif(&self, command: &mut Command) {
        let graph = "[0:v]split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1[v]";
        command.args(["-filter_complex", graph, "-map", "[v]", "-c:v", "gif"]);
        let packets = self.source.video.packets;
        if let (None, Some(shown)) = (self.cut, packets.last_duration)
            && let Some(hundredth) = Ratio::new(1, 100)
        {
            let delay = self.frames.time_base.rescale(shown, hundredth).clamp(1, 65_535);
            command.args(["-final_delay", &delay.to_string()]);
        }
    }

    /// What the user should know of the streams beside the video.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let name = self.container.extension();
        let (width, height) = self.size();
        if (width, height) != (self.frames.width, self.frames.height) {
            notes.push(format!(
                "{}×{} made even by repeating the last row or column: {width}×{height}, as {} wants",
                self.frames.width,
                self.frames.height,
                self.encoder.map_or(String::new(), |encoder| encoder.codec.to_string())
            ));
        }
        for stream in &self.source.others {
            let what = match stream.kind {
                Kind::Audio => "sound",
                Kind::Subtitle => "subtitles",
                Kind::Video => {
                    notes.push(
                        "a cover or second video beside the one that is painted is left out".to_string(),
                    );
                    continue;
                }
                Kind::Attachment | Kind::Other => continue,
            };
            let codec = if stream.codec.is_empty() { "unknown" } else { &stream.codec };
            match self.container.fate(stream) {
                Fate::Copy => {}
                // The same text in another wrapping is nothing to speak of.
                Fate::Convert(_) if stream.kind == Kind::Subtitle => {}
                Fate::Convert(encoder) => {
                    let keeps = Container::Matroska.fate(stream) == Fate::Copy;
                    notes.push(format!(
                        "{what}: .{name} does not hold {codec}, encoded anew as {}{}",
                        encoder.trim_start_matches("lib"),
                        if keeps { "; hint: .mkv would keep it" } else { "" }
                    ));
                }
                Fate::LeaveOut => notes.push(format!("{what}: .{name} does not hold {codec}, left out")),
            }
        }
        notes
    }
}

impl Encoder {
    /// Starts encoding into `to`, which is overwritten.
    ///
    /// # Errors
    /// [`VideoError::Output`] when ffmpeg cannot be started, [`VideoError::Ffmpeg`] when it gives up at once.
    pub fn start(tools: &Tools, recipe: &Recipe<'_>, to: &Path) -> Result<Self, VideoError> {
        let cannot_start = |error: std::io::Error| VideoError::Output {
            path: recipe.output.display().to_string(),
            reason: format!("ffmpeg cannot be started: {error}"),
        };
        let mut command = tools.ffmpeg();
        command.arg("-y");
        recipe.arguments(&mut command);
        command.arg(file_argument(to)).stdin(Stdio::piped()).stdout(Stdio::null());
        command.env("SVT_LOG", "1"); // SVT-AV1 speaks past ffmpeg's log level
        let running = Running::start(command).map_err(cannot_start)?;
        let stdin =
            running.take_stdin().ok_or_else(|| cannot_start(std::io::ErrorKind::BrokenPipe.into()))?;
        let (width, height) = recipe.size();
        let pipe_base = recipe.pipe_time_base();
        let header = StreamHeader { width, height, time_base: pipe_base, ..recipe.frames };
        let padded = (width, height) != (recipe.frames.width, recipe.frames.height);
        let writer = match NutWriter::new(stdin, &header, recipe.source.video.frame_rate) {
            Ok(writer) => writer,
            Err(error) => {
                let ended = running.wait().map_err(|_| cannot_start(error))?;
                return Err(failed(recipe.output, "encode", &ended));
            }
        };
        let sink = Sink {
            writer,
            from: recipe.frames.time_base,
            to: pipe_base,
            last: None,
            dropped: 0,
            padded: padded.then(|| Frame::black(width, height)),
        };
        Ok(Encoder { running: Arc::new(running), sink })
    }
}

impl Sink {
    /// Writes a frame.
    ///
    /// # Units
    /// `pts` in ticks of the recipe's time base.
    ///
    /// # Errors
    /// What the pipe reports: a broken one when the encoder has died.
    pub fn write(&mut self, pts: i64, frame: &Frame) -> std::io::Result<()> {
        let pts = self.from.rescale(pts, self.to);
        // Only in GIF can two frames fall into one tick; the first is shown.
        if self.last.is_some_and(|last| pts <= last) {
            self.dropped += 1;
            return Ok(());
        }
        self.last = Some(pts);
        match &mut self.padded {
            None => self.writer.frame(pts, frame.rgb()),
            Some(padded) => {
                pad(frame, padded);
                self.writer.frame(pts, padded.rgb())
            }
        }
    }

    /// Frames that were left out because an earlier one has their timestamp.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// Fills `to`, which is as large or a little larger, by repeating the last row and column.
pub(super) fn pad(from: &Frame, to: &mut Frame) {
    let (width, bytes) = (to.width(), from.width() * 3);
    let rows = to.rgb_mut().chunks_exact_mut(width * 3);
    for (y, row) in rows.enumerate() {
        let y = y.min(from.height() - 1);
        let (copied, rest) = row.split_at_mut(bytes);
        copied.copy_from_slice(&from.rgb()[y * bytes..(y + 1) * bytes]);
        for pixel in rest.chunks_exact_mut(3) {
            pixel.copy_from_slice(&copied[bytes - 3..]);
        }
    }
}

/// A copy of a video up to `seconds` on its own clock, streams as they are: for a painting that was ended early,
/// whose sound goes on.
pub(super) fn cut_copy(tools: &Tools, container: Container, from: &Path, to: &Path, seconds: f64) -> Command {
    let mut command = tools.ffmpeg();
    command.args(["-y", "-copyts", "-i"]).arg(file_argument(from));
    command.args(["-map", "0", "-c", "copy", "-t", &format!("{seconds:.6}")]);
    if matches!(container, Container::Mp4 | Container::Mov) {
        command.args(["-movflags", "+faststart"]);
    }
    command.args(["-f", container.muxer()]).arg(file_argument(to)).stdout(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_made_even_by_repeating_the_last_pixels() {
        let from = Frame::new(1, 3, vec![1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        let mut to = Frame::black(2, 4);
        pad(&from, &mut to);
        let last = [7, 8, 9, 7, 8, 9];
        assert_eq!(to.rgb(), [&[1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6][..], &last, &last].concat());
    }
}
