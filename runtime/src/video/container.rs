//! What goes into which container: video codecs, and what happens to sound, subtitles and attachments.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::error::VideoError;
use super::ffmpeg::Tools;
use super::probe::{Kind, OtherStream};

/// A container, by the extension of the result's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.mp4`, `.m4v`
    Mp4,
    /// `.mov`
    Mov,
    /// `.mkv`
    Matroska,
    /// `.webm`
    WebM,
    /// `.gif`: no sound, 256 colours a frame
    Gif,
}

/// Extensions of the containers that are written, for messages.
pub const WRITABLE: &str = ".mp4, .mov, .mkv, .webm or .gif";

impl Container {
    /// The container that a file name asks for.
    ///
    /// # Errors
    /// [`VideoError::Output`] names the extensions there are.
    pub fn from_path(path: &Path) -> Result<Self, VideoError> {
        let extension = path.extension().and_then(|ext| ext.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("mp4" | "m4v") => Ok(Container::Mp4),
            Some("mov") => Ok(Container::Mov),
            Some("mkv") => Ok(Container::Matroska),
            Some("webm") => Ok(Container::WebM),
            Some("gif") => Ok(Container::Gif),
            _ => Err(VideoError::Output {
                path: path.display().to_string(),
                reason: format!("no video container goes by this extension; expected {WRITABLE}"),
            }),
        }
    }

    /// ffmpeg's name for it.
    pub(super) fn muxer(self) -> &'static str {
        match self {
            Container::Mp4 => "mp4",
            Container::Mov => "mov",
            Container::Matroska => "matroska",
            Container::WebM => "webm",
            Container::Gif => "gif",
        }
    }

    /// Its extension.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Container::Matroska => "mkv",
            other => other.muxer(),
        }
    }

    fn is_iso(self) -> bool {
        matches!(self, Container::Mp4 | Container::Mov)
    }

    fn holds(self, codec: Codec) -> bool {
        match self {
            Container::Mp4 | Container::Matroska => true,
            Container::Mov => matches!(codec, Codec::H264 | Codec::H265),
            Container::WebM => matches!(codec, Codec::Vp9 | Codec::Av1),
            Container::Gif => false,
        }
    }
}

/// How the painted video is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264: plays everywhere
    H264,
    /// H.265 (HEVC): smaller files, slower
    H265,
    /// VP9: what .webm is for
    Vp9,
    /// AV1: the smallest files
    Av1,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Vp9 => "vp9",
            Codec::Av1 => "av1",
        })
    }
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "h264" | "avc" => Ok(Codec::H264),
            "h265" | "hevc" => Ok(Codec::H265),
            "vp9" => Ok(Codec::Vp9),
            "av1" => Ok(Codec::Av1),
            _ => Err("expected h264, h265, vp9 or av1".to_string()),
        }
    }
}

/// An encoder of ffmpeg's, with how it is told quality and speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VideoEncoder {
    pub name: &'static str,
    pub codec: Codec,
    /// The largest value that `-crf` takes.
    worst: u8,
    /// What `-crf` is unless told: 40 dB and more against the source at strength 0.
    quality: u8,
    /// The option for speed, and its value unless told.
    preset: (&'static str, &'static str),
}

/// By preference.
const ENCODERS: &[VideoEncoder] = &[
    VideoEncoder {
        name: "libx264",
        codec: Codec::H264,
        worst: 51,
        quality: 18,
        preset: ("-preset", "veryfast"),
    },
    VideoEncoder {
        name: "libx265",
        codec: Codec::H265,
        worst: 51,
        quality: 20,
        preset: ("-preset", "veryfast"),
    },
    VideoEncoder {
        name: "libvpx-vp9",
        codec: Codec::Vp9,
        worst: 63,
        quality: 26,
        preset: ("-cpu-used", "5"),
    },
    VideoEncoder { name: "libsvtav1", codec: Codec::Av1, worst: 63, quality: 22, preset: ("-preset", "10") },
    VideoEncoder {
        name: "libaom-av1",
        codec: Codec::Av1,
        worst: 63,
        quality: 22,
        preset: ("-cpu-used", "6"),
    },
];

impl VideoEncoder {
    /// The encoder for a container; `None` for GIF, which has its own.
    ///
    /// # Errors
    /// [`VideoError::Option`] when the container does not hold the codec, this ffmpeg has no encoder for it, or the
    /// quality is out of its range.
    pub fn choose(
        tools: &Tools,
        container: Container,
        codec: Option<Codec>,
        quality: Option<u8>,
    ) -> Result<Option<Self>, VideoError> {
        if container == Container::Gif {
            return match (codec, quality) {
                (None, None) => Ok(None),
                _ => {
                    Err(VideoError::Option("--codec and --quality: .gif has neither; leave them out".into()))
                }
            };
        }
        let codec = codec.unwrap_or(if container == Container::WebM { Codec::Vp9 } else { Codec::H264 });
        if !container.holds(codec) {
            let all = [Codec::H264, Codec::H265, Codec::Vp9, Codec::Av1];
            let held: Vec<String> =
                all.iter().filter(|&&codec| container.holds(codec)).map(ToString::to_string).collect();
            return Err(VideoError::Option(format!(
                "--codec {codec}: .{} does not hold it; expected {}",
                container.extension(),
                held.join(" or ")
            )));
        }
        for encoder in ENCODERS.iter().filter(|encoder| encoder.codec == codec) {
            if tools.has_encoder(encoder.name)? {
                if let Some(quality) = quality.filter(|&quality| quality > encoder.worst) {
                    return Err(VideoError::Option(format!(
                        "--quality {quality}: out of range for {codec}; expected 0 (best) to {}",
                        encoder.worst
                    )));
                }
                return Ok(Some(*encoder));
            }
        }
        let names: Vec<&str> =
            ENCODERS.iter().filter(|encoder| encoder.codec == codec).map(|encoder| encoder.name).collect();
        Err(VideoError::Option(format!(
            "--codec {codec}: this ffmpeg ({}) was built without {}; hint: another --codec, or another ffmpeg",
            tools.version(),
            names.join(" and ")
        )))
    }

    /// Codec, quality and speed as options.
    pub fn arguments(&self, quality: Option<u8>, preset: Option<&str>) -> Vec<String> {
        let quality = quality.unwrap_or(self.quality);
        let (option, default) = self.preset;
        let mut arguments: Vec<String> =
            ["-c:v", self.name, "-crf", &quality.to_string(), option, preset.unwrap_or(default)]
                .map(str::to_string)
                .to_vec();
        // These two take -crf as an upper bound of a bit rate unless there is none.
        if matches!(self.name, "libvpx-vp9" | "libaom-av1") {
            arguments.extend(["-b:v", "0", "-row-mt", "1"].map(str::to_string));
        }
        arguments
    }

    /// Whether both sides have to be even in `yuv420p`.
    pub fn wants_even_sides(&self) -> bool {
        matches!(self.codec, Codec::H264 | Codec::H265)
    }
}

/// What becomes of a stream that is not painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Copy,
    /// To another codec, by ffmpeg's name of the encoder.
    Convert(&'static str),
    LeaveOut,
}

impl Container {
    /// What becomes of a stream of the source in this container.
    pub(super) fn fate(self, stream: &OtherStream) -> Fate {
        let codec = stream.codec.as_str();
        match stream.kind {
            _ if self == Container::Gif => Fate::LeaveOut,
            Kind::Audio => self.fate_of_sound(codec),
            Kind::Subtitle => self.fate_of_subtitles(codec),
            Kind::Attachment if self == Container::Matroska => Fate::Copy,
            Kind::Attachment | Kind::Video | Kind::Other => Fate::LeaveOut,
        }
    }

    fn fate_of_sound(self, codec: &str) -> Fate {
        let copied = match self {
            _ if codec.is_empty() => return Fate::LeaveOut,
            Container::Matroska => !is_foreign_to_matroska(codec),
            Container::WebM => matches!(codec, "opus" | "vorbis"),
            Container::Mov if codec.starts_with("pcm_") => {
                !codec.contains("bluray") && !codec.contains("dvd")
            }
            _ => {
                matches!(codec, "aac" | "mp3" | "ac3" | "eac3" | "alac" | "dts")
                    || self.takes_newer_sound(codec)
            }
        };
        match copied {
            true => Fate::Copy,
            false if self == Container::WebM => Fate::Convert("libopus"),
            false if self == Container::Matroska => Fate::Convert("flac"),
            false => Fate::Convert("aac"),
        }
    }

    /// What .mp4 takes and .mov does not.
    fn takes_newer_sound(self, codec: &str) -> bool {
        self == Container::Mp4 && matches!(codec, "opus" | "flac")
    }

    fn fate_of_subtitles(self, codec: &str) -> Fate {
        let text = matches!(codec, "subrip" | "srt" | "ass" | "ssa" | "webvtt" | "mov_text" | "text");
        match self {
            Container::Matroska => match codec {
                "mov_text" => Fate::Convert("srt"),
                "hdmv_pgs_subtitle" | "dvd_subtitle" | "dvb_subtitle" => Fate::Copy,
                _ if text => Fate::Copy,
                _ => Fate::LeaveOut,
            },
            _ if self.is_iso() => match codec {
                "mov_text" => Fate::Copy,
                _ if text => Fate::Convert("mov_text"),
                _ => Fate::LeaveOut,
            },
            _ if codec == "webvtt" => Fate::Copy,
            _ if text => Fate::Convert("webvtt"),
            _ => Fate::LeaveOut,
        }
    }
}

/// Sound of QuickTime, Flash and discs that has no name in Matroska.
fn is_foreign_to_matroska(codec: &str) -> bool {
    let pcm = ["pcm_s8", "pcm_f32be", "pcm_f64be", "pcm_bluray", "pcm_dvd"];
    let packed = ["adpcm_ima_qt", "gsm", "mace3", "mace6", "nellymoser", "qdm2", "qdmc"];
    codec.ends_with("_planar") || pcm.contains(&codec) || packed.contains(&codec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(container: Container, kind: Kind, codec: &str) -> Fate {
        container.fate(&OtherStream { index: 1, kind, codec: codec.to_string() })
    }

    #[test]
    fn extensions() {
        for (name, container) in
            [("a.mp4", Container::Mp4), ("a.MKV", Container::Matroska), ("b/c.webm", Container::WebM)]
        {
            assert_eq!(Container::from_path(Path::new(name)).unwrap(), container);
        }
        for name in ["a.avi", "a", "a.png", ".mp4"] {
            let error = Container::from_path(Path::new(name)).unwrap_err().to_string();
            assert!(error.contains(".webm"), "{error}");
        }
    }

    #[test]
    fn sound_is_copied_where_it_can_be() {
        for (container, codec, expected) in [
            (Container::Mp4, "aac", Fate::Copy),
            (Container::Mp4, "opus", Fate::Copy),
            (Container::Mp4, "pcm_s16le", Fate::Convert("aac")),
            (Container::Mov, "pcm_s16le", Fate::Copy),
            (Container::Mov, "vorbis", Fate::Convert("aac")),
            (Container::Matroska, "anything", Fate::Copy),
            (Container::Matroska, "pcm_s16be", Fate::Copy),
            (Container::Matroska, "pcm_bluray", Fate::Convert("flac")),
            (Container::WebM, "vorbis", Fate::Copy),
            (Container::WebM, "aac", Fate::Convert("libopus")),
            (Container::Gif, "aac", Fate::LeaveOut),
        ] {
            assert_eq!(fate(container, Kind::Audio, codec), expected, "{container:?} {codec}");
        }
    }

    #[test]
    fn subtitles_become_what_the_container_takes() {
        for (container, codec, expected) in [
            (Container::Mp4, "subrip", Fate::Convert("mov_text")),
            (Container::Mov, "mov_text", Fate::Copy),
            (Container::Mp4, "hdmv_pgs_subtitle", Fate::LeaveOut),
            (Container::Matroska, "ass", Fate::Copy),
            (Container::Matroska, "mov_text", Fate::Convert("srt")),
            (Container::WebM, "subrip", Fate::Convert("webvtt")),
        ] {
            assert_eq!(fate(container, Kind::Subtitle, codec), expected, "{container:?} {codec}");
        }
        assert_eq!(fate(Container::Matroska, Kind::Attachment, "ttf"), Fate::Copy);
        assert_eq!(fate(Container::Mp4, Kind::Video, "mjpeg"), Fate::LeaveOut);
    }
}
