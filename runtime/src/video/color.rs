//! How a video's colours are coded, so that what is decoded to RGB is coded back the same way.

/// Range, matrix, primaries and transfer under ffmpeg's names; `None` where the source does not say.
///
/// Painting goes through 8-bit RGB. To RGB and back, the same matrix and range are used and written into the
/// result's tags. Where the source says nothing, what players take it for is used, each way by the size that they see
/// there: BT.709 in HD, BT.601 below, limited range. Nothing is claimed then, and the result looks as the source does
/// at any size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Color {
    /// `tv` (limited) or `pc` (full).
    pub range: Option<String>,
    /// `bt709`, `smpte170m`, …: from RGB to luma and colour differences.
    pub matrix: Option<String>,
    /// `bt709`, `bt2020`, …: what pure red, green and blue are.
    pub primaries: Option<String>,
    /// `bt709`, `smpte2084`, …: from light to value.
    pub transfer: Option<String>,
}

/// Resampling of the colour planes without shortcuts: what is not painted comes back unchanged.
const ACCURATE: &str = "accurate_rnd+full_chroma_int+full_chroma_inp";

/// From this width or beyond this height on, players take a video that says nothing for BT.709 (mpv's rule).
const HD: (usize, usize) = (1280, 576);

impl Color {
    /// The matrix under swscale's name for a video of this size. It knows five; the tags that it does not know (ICtCp
    /// and the like) are treated as BT.601, both ways, which is neutral too.
    fn swscale_matrix(&self, (width, height): (usize, usize)) -> &'static str {
        match self.matrix.as_deref() {
            Some("bt709") => "bt709",
            None if width >= HD.0 || height > HD.1 => "bt709",
            Some("fcc") => "fcc",
            Some("smpte240m") => "smpte240m",
            Some("bt2020nc" | "bt2020c") => "bt2020",
            _ => "bt601",
        }
    }

    /// Filters from what the decoder gives, in the size `from`, to `rgb24` in the size `to`.
    pub(super) fn yuv_to_rgb(&self, from: (usize, usize), to: (usize, usize)) -> String {
        let (matrix, (width, height)) = (self.swscale_matrix(from), to);
        format!("scale=w={width}:h={height}:flags=bicubic+{ACCURATE}:in_color_matrix={matrix},format=rgb24")
    }

    /// Filters from `rgb24` to `yuv420p` of this size in these colours, with tags.
    pub(super) fn rgb_to_yuv(&self, size: (usize, usize)) -> String {
        let matrix = self.swscale_matrix(size);
        let range = if self.range.as_deref() == Some("pc") { "pc" } else { "tv" };
        format!(
            "scale=flags=bicubic+{ACCURATE}:out_color_matrix={matrix}:out_range={range},format=yuv420p,setparams={}",
            self.tags().join(":")
        )
    }

    /// The tags as options of `setparams`: those of which nothing is known are taken off.
    fn tags(&self) -> [String; 4] {
        let tag = |option: &str, value: &Option<String>, known: &[&str]| {
            let value = value.as_deref().filter(|value| known.contains(value));
            format!("{option}={}", value.unwrap_or("unknown"))
        };
        [
            tag("range", &self.range, &["tv", "pc"]),
            tag("color_primaries", &self.primaries, PRIMARIES),
            tag("color_trc", &self.transfer, TRANSFERS),
            tag("colorspace", &self.matrix, MATRICES),
        ]
    }

    /// The colours of a result whose source is coded like this in a pixel format: RGB (GIF, PNG) has no matrix and
    /// no range of its own, and gets those of today's video.
    #[must_use]
    pub(super) fn for_result(&self, pixel_format: &str) -> Self {
        let rgb = ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr"];
        if self.matrix.as_deref() == Some("gbr") || rgb.iter().any(|name| pixel_format.starts_with(name)) {
            let (range, matrix) = (Some("tv".to_string()), Some("bt709".to_string()));
            return Color { range, matrix, ..self.clone() };
        }
        self.clone()
    }
}

const PRIMARIES: &[&str] = &[
    "bt709",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "film",
    "bt2020",
    "smpte428",
    "smpte431",
    "smpte432",
];
const TRANSFERS: &[&str] = &[
    "bt709",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "linear",
    "log100",
    "log316",
    "iec61966-2-4",
    "bt1361e",
    "iec61966-2-1",
    "bt2020-10",
    "bt2020-12",
    "smpte2084",
    "smpte428",
    "arib-std-b67",
];
const MATRICES: &[&str] = &[
    "bt709",
    "fcc",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "ycgco",
    "bt2020nc",
    "bt2020c",
    "smpte2085",
    "chroma-derived-nc",
    "chroma-derived-c",
    "ictcp",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_both_ways_and_nothing_is_claimed_that_is_not_known() {
        let some = |text: &str| Some(text.to_string());
        let hd = Color { range: some("pc"), matrix: some("bt709"), primaries: some("bt709"), transfer: None };
        let decoding = hd.yuv_to_rgb((8, 4), (4, 2));
        assert!(decoding.contains("w=4:h=2") && decoding.contains("in_color_matrix=bt709"), "{decoding}");
        let small = (64, 48);
        assert!(hd.rgb_to_yuv(small).contains("out_color_matrix=bt709:out_range=pc"));
        let tags = "setparams=range=pc:color_primaries=bt709:color_trc=unknown:colorspace=bt709";
        assert!(hd.rgb_to_yuv(small).ends_with(tags), "{}", hd.rgb_to_yuv(small));
        let silent = Color::default();
        assert!(silent.rgb_to_yuv(small).contains("out_range=tv,format=yuv420p,setparams=range=unknown:"));
        // What says nothing is taken for what its size makes of it, here and there.
        let shrinking = silent.yuv_to_rgb((1920, 1080), small);
        assert!(
            shrinking.contains("w=64:h=48") && shrinking.contains("in_color_matrix=bt709"),
            "{shrinking}"
        );
        assert!(silent.rgb_to_yuv(small).contains("out_color_matrix=bt601"));
        // A name from the file never becomes part of a filter unless it is known.
        let odd = Color { matrix: some("x,exec=y"), ..Color::default() };
        assert_eq!(odd.rgb_to_yuv(small), silent.rgb_to_yuv(small));
    }

    #[test]
    fn rgb_becomes_todays_video() {
        for format in ["bgra", "rgb24", "pal8", "gbrp"] {
            assert_eq!(Color::default().for_result(format).matrix.as_deref(), Some("bt709"), "{format}");
        }
        assert_eq!(Color::default().for_result("yuv420p"), Color::default());
    }
}
