//! What a media file holds, as ffprobe tells it: the video that is to be painted, and what goes past it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use super::color::Color;
use super::error::VideoError;
use super::ffmpeg::{INPUT_PROTOCOLS, Running, Tools, file_argument};
use super::time::Ratio;

/// Seconds that the clock of one recording never goes back.
const REWOUND: f64 = 0.5;

/// A media file with video in it.
#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    /// The video that is painted.
    pub video: VideoStream,
    /// What lies beside it.
    pub others: Vec<OtherStream>,
    /// When the file begins, in seconds on its own clock.
    pub start_seconds: f64,
    /// ffprobe's names for the container.
    pub format: String,
}

/// The video stream that is painted: the default one, else the first. Attached pictures (covers) are none.
#[derive(Debug, Clone)]
pub struct VideoStream {
    /// Its number in the file.
    pub index: usize,
    /// Width in pixels, upright.
    pub width: usize,
    /// Height in pixels, upright.
    pub height: usize,
    /// Codec by ffprobe's name.
    pub codec: String,
    /// Pixel format by ffmpeg's name.
    pub pixel_format: String,
    /// How its colours are coded.
    pub color: Color,
    /// Seconds a tick of its timestamps.
    pub time_base: Ratio,
    /// Frames a second, or what ffprobe takes for it.
    pub frame_rate: Option<Ratio>,
    /// How far the display matrix turns it, in degrees counterclockwise; undone on decoding.
    pub rotation: i32,
    /// Whether its frames are two fields of lines each, taken one after the other; made into whole frames on decoding.
    pub interlaced: bool,
    /// Whether its pixels can be transparent; what lies under it is painted.
    pub transparent: bool,
    /// Title, language and such.
    pub tags: Vec<(String, String)>,
    /// Its packets, counted.
    pub packets: Packets,
}

/// What a pass over the packets of a stream tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packets {
    /// How many there are to be shown.
    pub count: u64,
    /// Earliest timestamp in ticks.
    pub first: Option<i64>,
    /// Latest timestamp in ticks.
    pub last: Option<i64>,
    /// How long the latest is shown, in ticks.
    pub last_duration: Option<i64>,
    /// Most ticks from one key frame to the next, or to the end; `None` without timestamps.
    pub longest_gap: Option<i64>,
    /// Most ticks by which the time of decoding ever goes back; 0 in a file of one piece.
    pub farthest_back: i64,
}

/// What kind of stream goes past the painting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Subtitles.
    Subtitle,
    /// A file in the file, such as a font.
    Attachment,
    /// A second video or a cover.
    Video,
    /// Data.
    Other,
}

/// A stream that is copied, converted or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherStream {
    /// Its number in the file.
    pub index: usize,
    /// What it is.
    pub kind: Kind,
    /// Codec by ffprobe's name; empty when unknown.
    pub codec: String,
}

impl Source {
    /// Asks ffprobe what a file holds. The file is read once, without decoding, to count the frames.
    ///
    /// # Errors
    /// [`VideoError::Io`] when it cannot be read, [`VideoError::Source`] when it is no media file or holds no video.
    pub fn open(tools: &Tools, path: impl AsRef<Path>) -> Result<Self, VideoError> {
        let path = path.as_ref();
        let mut source = Self::look(tools, path)?;
        let video = &mut source.video;
        let counted = count_packets(tools, path, video.index);
        let counted =
            counted.map_err(|reason| VideoError::Source { path: path.display().to_string(), reason })?;
        video.packets = counted.ending(video.packets.last);
        Ok(source)
    }

    /// As [`Source::open`], without counting the frames: of the packets only the end that the container tells is known.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub(super) fn look(tools: &Tools, path: &Path) -> Result<Self, VideoError> {
        let unreadable = |source| VideoError::Io { action: "read", path: path.to_path_buf(), source };
        let wrong = |reason: String| VideoError::Source { path: path.display().to_string(), reason };
        if path.as_os_str() == "-" && !path.exists() {
            return Err(wrong(
                "standard input, and a video is read more than once; expected a video file; hint: save it to one"
                    .to_string(),
            ));
        }
        // Before it is opened: a pipe with nobody at its other end would be waited for.
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(wrong("is a folder; expected a video file".to_string()));
        }
        if !metadata.is_file() {
            return Err(wrong(
                "is a pipe or a device, and a video is read more than once; expected a video file; hint: save it to one"
                    .to_string(),
            ));
        }
        std::fs::File::open(path).map_err(unreadable)?;
        if metadata.len() == 0 {
            return Err(wrong("the file is empty; expected a video".to_string()));
        }
        let mut command = tools.ffprobe();
        command.args(INPUT_PROTOCOLS).args(["-of", "json", "-show_format", "-show_streams"]);
        let running = Running::start({
            command.arg(file_argument(path)).stdout(Stdio::piped());
            command
        });
        let running = running.map_err(|error| wrong(format!("ffprobe cannot be started: {error}")))?;
        let mut json = Vec::new();
        if let Some(mut stdout) = running.take_stdout() {
            std::io::Read::read_to_end(&mut stdout, &mut json)
                .map_err(|error| wrong(format!("ffprobe: {error}")))?;
        }
        let ended = running.wait().map_err(|error| wrong(format!("ffprobe: {error}")))?;
        if !ended.status.success() {
            let reason = ended.told();
            // It names the file itself.
            let own_name = format!("file:{}: ", path.display());
            return Err(wrong(format!("no video that ffmpeg can read: {}", reason.replace(&own_name, ""))));
        }
        let told: Told =
            serde_json::from_slice(&json).map_err(|error| wrong(format!("ffprobe's report: {error}")))?;
        told.into_source(path).map_err(wrong)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether ffmpeg finds the frame at a time by itself. In a broadcast stream it begins with the first key frame
    /// *after* the place where that time is sent, and without timestamps there is no such place.
    pub(super) fn seeks_exactly(&self) -> bool {
        !self.is_broadcast() && self.video.packets.first.is_some()
    }

    /// Whether it is put together from recordings that each have a clock of their own, as joined `.ts` and `.vob`
    /// files are.
    pub(super) fn is_joined(&self) -> bool {
        self.is_broadcast() && self.video.time_base.seconds(self.video.packets.farthest_back) > REWOUND
    }

    /// MPEG's transport and program streams.
    fn is_broadcast(&self) -> bool {
        matches!(self.format.as_str(), "mpegts" | "mpeg")
    }
}

impl VideoStream {
    /// Whether its samples have more than 8 bits. Only then do ffmpeg's names of pixel formats tell the order of the
    /// bytes, but for the packed ones with less.
    pub fn is_deep(&self) -> bool {
        let name = self.pixel_format.as_str();
        let packed = ["rgb444", "rgb5", "bgr444", "bgr5"].iter().any(|start| name.starts_with(start));
        (name.ends_with("le") || name.ends_with("be")) && !packed
    }

    /// Width and height before it is turned upright.
    pub(super) fn coded_size(&self) -> (usize, usize) {
        if is_sideways(self.rotation) { (self.height, self.width) } else { (self.width, self.height) }
    }

    /// When the last frame ends, in seconds on the file's clock.
    pub fn end_seconds(&self) -> Option<f64> {
        let last = self.time_base.seconds(self.packets.last?);
        let shown = match (self.packets.last_duration, self.frame_rate) {
            (Some(ticks), _) => self.time_base.seconds(ticks),
            (None, Some(rate)) => rate.inverse().value(),
            (None, None) => 0.0,
        };
        Some(last + shown)
    }
}

/// Reads the packets of a stream, line by line: constant memory, however long the film is.
fn count_packets(tools: &Tools, path: &Path, index: usize) -> Result<Packets, String> {
    let mut command = tools.ffprobe();
    command.args(INPUT_PROTOCOLS).args(["-select_streams", &index.to_string()]);
    command.args(["-show_entries", "packet=pts,dts,duration,flags", "-of", "compact=p=0"]);
    command.arg(file_argument(path)).stdout(Stdio::piped());
    let running = Running::start(command).map_err(|error| format!("ffprobe cannot be started: {error}"))?;
    let mut counter = Counter::default();
    if let Some(stdout) = running.take_stdout() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| format!("ffprobe: {error}"))?;
            counter.take(&String::from_utf8_lossy(&line));
        }
    }
    // A damaged file ends with an error here; the frames before it are painted all the same.
    running.wait().map_err(|error| format!("ffprobe: {error}"))?;
    Ok(counter.end())
}

impl Packets {
    /// Ends the last frame where the container says that the stream ends.
    fn ending(self, end: Option<i64>) -> Self {
        let shown = end.zip(self.last).map(|(end, last)| end.saturating_sub(last)).filter(|&shown| shown > 0);
        Packets { last_duration: shown.or(self.last_duration), ..self }
    }
}

/// Packets, as they come.
#[derive(Default)]
struct Counter {
    packets: Packets,
    /// Timestamp of the last key frame, and when the last packet is decoded.
    key: Option<i64>,
    decoded: Option<i64>,
}

impl Counter {
    /// Takes a line such as `pts=512|dts=0|duration=512|flags=K_`.
    fn take(&mut self, line: &str) {
        let field = |name: &str| {
            line.split('|')
                .find_map(|field| field.strip_prefix(name))
                .and_then(|field| field.strip_prefix('='))
        };
        let ticks = |name: &str| field(name).and_then(|ticks| ticks.parse::<i64>().ok());
        let Some(flags) = field("flags") else { return };
        // `D`: before the beginning that an edit list sets; decoded, never shown.
        if flags.contains('D') {
            return;
        }
        let packets = &mut self.packets;
        packets.count += 1;
        if let Some(dts) = ticks("dts") {
            let back = self.decoded.map_or(0, |decoded| decoded.saturating_sub(dts));
            packets.farthest_back = packets.farthest_back.max(back);
            self.decoded = Some(dts);
        }
        let Some(pts) = ticks("pts") else { return };
        packets.first = Some(packets.first.map_or(pts, |first| first.min(pts)));
        if packets.last.is_none_or(|last| pts >= last) {
            packets.last = Some(pts);
            packets.last_duration = ticks("duration").filter(|&ticks| ticks > 0);
        }
        if flags.contains('K') {
            self.gap_to(pts);
            self.key = Some(pts);
        }
    }

    fn gap_to(&mut self, pts: i64) {
        let gap = pts.saturating_sub(self.key.or(self.packets.first).unwrap_or(pts));
        self.packets.longest_gap = self.packets.longest_gap.max(Some(gap));
    }

    fn end(mut self) -> Packets {
        if let Some(last) = self.packets.last {
            self.gap_to(last);
        }
        self.packets
    }
}

/// ffprobe's report, as far as it is used.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    streams: Vec<ToldStream>,
    #[serde(default)]
    format: ToldFormat,
}

#[derive(Deserialize, Default)]
struct ToldFormat {
    #[serde(default)]
    format_name: String,
    start_time: Option<String>,
}

#[derive(Deserialize)]
struct ToldStream {
    index: usize,
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    #[serde(default)]
    pix_fmt: String,
    color_range: Option<String>,
    color_space: Option<String>,
    color_primaries: Option<String>,
    color_transfer: Option<String>,
    #[serde(default)]
    field_order: String,
    #[serde(default)]
    time_base: String,
    start_pts: Option<i64>,
    duration_ts: Option<i64>,
    #[serde(default)]
    r_frame_rate: String,
    #[serde(default)]
    avg_frame_rate: String,
    #[serde(default)]
    disposition: HashMap<String, i64>,
    #[serde(default)]
    tags: HashMap<String, String>,
    #[serde(default)]
    side_data_list: Vec<HashMap<String, serde_json::Value>>,
}

impl Told {
    fn into_source(self, path: &Path) -> Result<Source, String> {
        let is_video = |stream: &ToldStream| {
            stream.codec_type == "video" && !stream.has("attached_pic") && !stream.has("timed_thumbnails")
        };
        let videos: Vec<&ToldStream> = self.streams.iter().filter(|stream| is_video(stream)).collect();
        let chosen = videos.iter().find(|stream| stream.has("default")).or(videos.first());
        let Some(chosen) = chosen else {
            let held: Vec<&str> = self.streams.iter().map(|stream| stream.codec_type.as_str()).collect();
            let held = if held.is_empty() { "nothing".to_string() } else { held.join(", ") };
            return Err(format!("holds no video (only {held}); expected a video"));
        };
        let others = self.streams.iter().filter(|stream| stream.index != chosen.index).map(|stream| {
            let kind = match stream.codec_type.as_str() {
                "audio" => Kind::Audio,
                "subtitle" => Kind::Subtitle,
                "attachment" => Kind::Attachment,
                "video" => Kind::Video,
                _ => Kind::Other,
            };
            OtherStream { index: stream.index, kind, codec: stream.codec_name.clone() }
        });
        let start = self.format.start_time.as_deref().and_then(|text| text.parse().ok());
        Ok(Source {
            path: path.to_path_buf(),
            video: chosen.video()?,
            others: others.collect(),
            start_seconds: start.filter(|start: &f64| start.is_finite()).unwrap_or(0.0),
            format: self.format.format_name,
        })
    }
}

impl ToldStream {
    /// Whether it says that its pixels can be transparent. (Of a GIF ffprobe says so always.)
    fn is_transparent(&self) -> bool {
        const FORMATS: [&str; 9] = ["yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "vuya"];
        // WebM keeps it beside the video.
        let beside =
            self.tags.iter().any(|(key, value)| key.eq_ignore_ascii_case("alpha_mode") && value == "1");
        self.codec_name != "gif" && (beside || FORMATS.iter().any(|name| self.pix_fmt.starts_with(name)))
    }

    fn has(&self, disposition: &str) -> bool {
        self.disposition.get(disposition).is_some_and(|&set| set != 0)
    }

    fn video(&self) -> Result<VideoStream, String> {
        let rotation = self.side_data_list.iter().find_map(|data| data.get("rotation")?.as_f64());
        let rotation = rotation.filter(|angle| angle.is_finite()).map_or(0, |angle| angle.round() as i32);
        if self.width == 0 || self.height == 0 {
            return Err("its video has no size; expected width and height".to_string());
        }
        let (width, height) =
            if is_sideways(rotation) { (self.height, self.width) } else { (self.width, self.height) };
        let known = |tag: &Option<String>| tag.clone().filter(|tag| tag != "unknown" && tag != "reserved");
        let time_base = self.time_base.parse().map_err(|()| "its video has no time base".to_string())?;
        let mut tags: Vec<(String, String)> = Vec::new();
        for name in ["language", "title", "handler_name"] {
            let told = self.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            tags.extend(told.map(|(_, value)| (name.to_string(), value.clone())));
        }
        Ok(VideoStream {
            index: self.index,
            width,
            height,
            codec: self.codec_name.clone(),
            pixel_format: self.pix_fmt.clone(),
            transparent: self.is_transparent(),
            color: Color {
                range: known(&self.color_range),
                matrix: known(&self.color_space),
                primaries: known(&self.color_primaries),
                transfer: known(&self.color_transfer),
            },
            time_base,
            frame_rate: sensible_rate(&self.avg_frame_rate, &self.r_frame_rate),
            rotation,
            // DV's header does not say so; its frames do.
            interlaced: matches!(self.field_order.as_str(), "tt" | "bb" | "tb" | "bt")
                || self.codec_name == "dvvideo",
            tags,
            // The end that the container tells, until the packets are counted.
            packets: Packets {
                last: self
                    .start_pts
                    .zip(self.duration_ts)
                    .and_then(|(start, length)| start.checked_add(length)),
                ..Packets::default()
            },
        })
    }
}

/// Whether turning by so many degrees makes width height.
fn is_sideways(rotation: i32) -> bool {
    rotation.rem_euclid(180) == 90
}

/// The average rate, unless it is unknown or beyond what a camera does; then the lowest that all timestamps fit.
fn sensible_rate(average: &str, lowest: &str) -> Option<Ratio> {
    let sensible = |text: &str| text.parse().ok().filter(|rate: &Ratio| rate.value() < 1000.0);
    sensible(average).or_else(|| sensible(lowest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(json: &str) -> Result<Source, String> {
        serde_json::from_str::<Told>(json).unwrap().into_source(Path::new("a.mp4"))
    }

    #[test]
    fn a_turned_video_beside_a_cover_and_sound() {
        let told = source(
            r#"{"streams": [
                {"index": 0, "codec_type": "video", "codec_name": "mjpeg", "width": 9, "height": 9, "time_base": "1/90000",
                 "disposition": {"attached_pic": 1, "default": 1}},
                {"index": 1, "codec_type": "audio", "codec_name": "aac"},
                {"index": 2, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 480, "pix_fmt": "yuv420p",
                 "color_space": "unknown", "color_range": "tv", "time_base": "1/30000", "avg_frame_rate": "0/0",
                 "r_frame_rate": "30000/1001", "tags": {"LANGUAGE": "fra"},
                 "side_data_list": [{"side_data_type": "Display Matrix", "rotation": -90}]}],
                "format": {"start_time": "1.400000", "format_name": "mov,mp4"}}"#,
        );
        let told = told.unwrap();
        assert_eq!((told.video.index, told.video.width, told.video.height), (2, 480, 640));
        assert_eq!(told.video.coded_size(), (640, 480));
        assert_eq!(told.video.frame_rate.unwrap().to_string(), "30000/1001");
        assert_eq!(
            (told.video.color.matrix.as_deref(), told.video.color.range.as_deref()),
            (None, Some("tv"))
        );
        assert_eq!(told.video.tags, [("language".to_string(), "fra".to_string())]);
        assert_eq!((told.start_seconds, told.others.len()), (1.4, 2));
        assert_eq!(told.others[1].kind, Kind::Audio);
    }

    #[test]
    fn deep_colours_are_known_by_name() {
        let stream = r#"{"streams": [{"index": 0, "codec_type": "video", "width": 9, "height": 9, "time_base": "1/9"}]}"#;
        let mut video = source(stream).unwrap().video;
        for (name, deep) in [
            ("yuv420p10le", true),
            ("p010le", true),
            ("rgb48be", true),
            ("gray16le", true),
            ("yuv420p", false),
            ("rgb24", false),
            ("rgb565le", false),
            ("bgr444be", false),
            ("nv12", false),
        ] {
            video.pixel_format = name.to_string();
            assert_eq!(video.is_deep(), deep, "{name}");
        }
    }

    #[test]
    fn no_video_says_what_there_is() {
        let error = source(r#"{"streams": [{"index": 0, "codec_type": "audio"}]}"#).unwrap_err();
        assert!(error.contains("no video") && error.contains("audio"), "{error}");
        assert!(source("{}").unwrap_err().contains("nothing"));
        let flat = r#"{"streams": [{"index": 0, "codec_type": "video", "time_base": "1/25"}]}"#;
        assert!(source(flat).unwrap_err().contains("no size"));
    }

    #[test]
    fn packets_are_counted_in_any_order() {
        let mut counter = Counter::default();
        for line in [
            "pts=0|dts=-10|duration=10|flags=K_",
            "pts=-20|dts=-20|duration=10|flags=KD",
            "pts=30|dts=10|duration=15|flags=K_",
            "",
            "pts=10|dts=7|duration=10|flags=__",
            "pts=N/A|dts=N/A|duration=N/A|flags=__",
            "pts=20|dts=9|duration=10|flags=__",
        ] {
            counter.take(line);
        }
        let packets = counter.end();
        let (first, last, last_duration, longest_gap) = (Some(0), Some(30), Some(15), Some(30));
        let expected = Packets { count: 5, first, last, last_duration, longest_gap, farthest_back: 3 };
        assert_eq!(packets, expected);
        for (end, shown) in [(Some(43), 13), (Some(99), 69), (Some(30), 15), (None, 15)] {
            assert_eq!(packets.ending(end).last_duration, Some(shown), "{end:?}");
        }
    }
}
