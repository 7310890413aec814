//! Whether a JPEG is all there.
//!
//! The decoder paints the missing part of a cut-off JPEG grey and reports success, so half downloads
//! would train a network on grey. This check walks from marker to marker and asks whether the end is
//! reached; a search for the end marker alone would find that of the thumbnail inside the header.
//! `runtime/src/picture/decode.rs` asks the same of pictures that are painted: what is mended here is mended there.

/// Whether these bytes begin as a JPEG does.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Whether the picture's end marker is reached. What follows it (some cameras append films) is ignored.
pub(crate) fn reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(skipped) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
        at += skipped;
        at += match bytes.get(at + 1) {
            None => return false,
            Some(0xd9) => return true,
            // A fill byte: the next 0xff may begin the marker.
            Some(0xff) => 1,
            // Escaped data and markers without a body.
            Some(0x00 | 0x01 | 0xd0..=0xd8) => 2,
            Some(_) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, an APP1 segment with a thumbnail's end marker inside, scan data with an escape and a
    /// restart marker, a fill byte, end.
    const WHOLE: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 7, 7, 0xff, 0xda, 0, 3, 1, 5, 0xff, 0, 9, 0xff, 0xd0, 9,
        0xff, 0xff, 0xd9,
    ];

    #[test]
    fn only_the_whole_file_passes() {
        assert!(is_jpeg(WHOLE));
        assert!(reaches_its_end(WHOLE));
        for len in 0..WHOLE.len() {
            assert!(!reaches_its_end(&WHOLE[..len]), "passed when cut to {len} bytes");
        }
    }

    #[test]
    fn what_follows_the_end_does_not_matter() {
        let mut longer = WHOLE.to_vec();
        longer.extend_from_slice(&[0xff, 0xe1, 0xff, 0xff]);
        assert!(reaches_its_end(&longer));
    }
}
