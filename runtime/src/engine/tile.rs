//! How large pictures are cut, and where their activations are kept.

use std::fmt;
use std::str::FromStr;

use crate::error::RuntimeError;

/// Where a picture's activations are kept while it is painted, and the rows that are worked on at a time.
///
/// Every instance norm's statistics are those of the whole picture, so there are no seams, and a tiled picture is
/// the untiled one. What is too large for memory goes to a scratch file, in the folder that `IMPASTO_SCRATCH` names
/// (else `TMPDIR`, `/var/tmp`, or the system's folder for temporary files); it has no name there, and is gone with
/// the painting, however that ends. Nothing is computed twice: with fifteen instance norms that would be about
/// eight times the arithmetic.
///
/// The portable path keeps everything in memory and refuses a picture that takes more than 8 GiB of it; GPUs keep
/// everything in theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tile {
    /// Up to 768 MiB in memory, the rest in a scratch file. That does not change a bit of the result.
    #[default]
    Auto,
    /// In a scratch file whatever the size, in bands of so many rows of each layer, rounded up to what it computes
    /// together, a multiple of 4 or 6. Statistics are then merged in another order: a value may differ from the
    /// untiled one's in its last digits.
    Rows(usize),
    /// In memory, whatever it takes.
    Off,
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tile::Auto => f.write_str("auto"),
            Tile::Rows(rows) => write!(f, "{rows}"),
            Tile::Off => f.write_str("off"),
        }
    }
}

impl FromStr for Tile {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Tile::Auto),
            ("off", _) => Ok(Tile::Off),
            (_, Ok(rows @ 1..=1_000_000)) => Ok(Tile::Rows(rows)),
            _ => Err(RuntimeError::Device(format!(
                "`{}` is no tile; expected auto, off, or a number of rows from 1",
                text.escape_debug()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_print() {
        for tile in [Tile::Auto, Tile::Off, Tile::Rows(1), Tile::Rows(64)] {
            assert_eq!(tile.to_string().parse::<Tile>().unwrap(), tile);
        }
        for text in ["", "0", "-4", "4.0", "on", "Auto", "99999999999999999999"] {
            assert!(text.parse::<Tile>().is_err(), "{text}");
        }
    }
}
