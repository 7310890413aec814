//! Videos: decoded and encoded by ffmpeg, painted in between, with timestamps, sound and colours as they were.
//!
//! ffmpeg is a program on the PATH and not a library: no build needs it, and users have the codecs that they chose.
//! Frames travel through pipes as NUT, whose timestamps are the source's to the last tick.
//!
//! - `ffmpeg`: the programs, found, checked, started and listened to.
//! - `probe`: what a file holds.
//! - `nut`: raw frames with timestamps through a pipe.
//! - `color`, `container`, `time`: how colours are coded, what goes into which container, ticks and seconds.
//! - `decode`, `encode`: the two ffmpegs.
//! - `pipeline`: decode, paint and encode, each on its own thread, in constant memory.
//! - `job`, `stop`: a video from its file to its painting, and what may end that.
//! - `live`, `record`: the newest frame of a camera, and a file of what was shown.
//!
//! ```no_run
//! use impasto::paint::{FramePainter, PaintOptions};
//! use impasto::video::{Job, Source, Stop, Tools, VideoOptions};
//! use impasto::{Progress, Stylizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (tools, stylizer) = (Tools::find()?, Stylizer::open("wave.safetensors")?);
//! let source = Source::open(&tools, "holiday.mp4")?;
//! let mut painter = FramePainter::new(&stylizer, PaintOptions::default());
//! let job = Job::new(&tools, &source, "painted.mp4".as_ref(), VideoOptions::default())?;
//! let report = job.run(
//!     &mut |frame, painted| painter.paint_into(frame, painted, &Progress::new()),
//!     &|frames| eprintln!("{frames}"),
//!     &Stop::new(),
//! )?;
//! assert_eq!(report.frames, source.video.packets.count);
//! # Ok(())
//! # }
//! ```

mod color;
mod container;
mod decode;
mod encode;
mod error;
mod ffmpeg;
mod job;
mod live;
mod nut;
mod pipeline;
mod probe;
mod record;
mod stop;
mod time;

pub use color::Color;
pub use container::{Codec, Container, WRITABLE};
pub use error::VideoError;
pub use ffmpeg::{OLDEST, Tools};
pub use job::{Job, Report, Stage, VideoOptions};
pub use live::{Capture, LiveOptions, LiveSource, Taken};
pub use nut::{NutReader, NutWriter, StreamHeader};
pub use pipeline::Paint;
pub use probe::{Kind, OtherStream, Packets, Source, VideoStream};
pub use record::Recorder;
pub use stop::Stop;
pub use time::{Ratio, parse_seconds};
