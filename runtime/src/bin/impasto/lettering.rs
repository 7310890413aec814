//! Letters on a frame: for the camera's window and for charts, without a font file.

use impasto::Frame;

/// Rows of dots of a letter.
pub const ROWS: usize = 7;
/// Columns of dots from one letter to the next.
const ADVANCE: usize = 6;

/// Width of a text in pixels.
#[cfg(feature = "reference")]
pub fn width(text: &str, dot: usize) -> usize {
    (text.chars().count() * ADVANCE).saturating_sub(1) * dot
}

/// Writes a text with its upper left corner at `(x, y)`, dots being squares of `dot` pixels. What lies outside the
/// frame is left out.
pub fn write(frame: &mut Frame, text: &str, (x, y): (isize, isize), dot: usize, color: [u8; 3]) {
    let (width, height) = (frame.width() as isize, frame.height() as isize);
    for (place, letter) in text.chars().enumerate() {
        let left = x + (place * ADVANCE * dot) as isize;
        for (row, bits) in glyph(letter).into_iter().enumerate() {
            for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                let (from_x, from_y) = (left + (column * dot) as isize, y + (row * dot) as isize);
                for y in from_y.max(0)..(from_y + dot as isize).min(height) {
                    for x in from_x.max(0)..(from_x + dot as isize).min(width) {
                        let at = 3 * (y * width + x) as usize;
                        frame.rgb_mut()[at..at + 3].copy_from_slice(&color);
                    }
                }
            }
        }
    }
}

/// A letter of 5 × 7 dots, row by row from the top, the leftmost dot in bit 4. Small letters are shown large, what is
/// not here as a blank.
fn glyph(letter: char) -> [u8; 7] {
    match letter.to_ascii_uppercase() {
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 2, 4, 8, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        'A' => [14, 17, 17, 31, 17, 17, 17],
        'B' => [30, 17, 17, 30, 17, 17, 30],
        'C' => [14, 17, 16, 16, 16, 17, 14],
        'D' => [28, 18, 17, 17, 17, 18, 28],
        'E' => [31, 16, 16, 30, 16, 16, 31],
        'F' => [31, 16, 16, 30, 16, 16, 16],
        'G' => [14, 17, 16, 23, 17, 17, 15],
        'H' => [17, 17, 17, 31, 17, 17, 17],
        'I' => [14, 4, 4, 4, 4, 4, 14],
        'J' => [7, 2, 2, 2, 2, 18, 12],
        'K' => [17, 18, 20, 24, 20, 18, 17],
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'M' => [17, 27, 21, 21, 17, 17, 17],
        'N' => [17, 17, 25, 21, 19, 17, 17],
        'O' => [14, 17, 17, 17, 17, 17, 14],
        'P' => [30, 17, 17, 30, 16, 16, 16],
        'Q' => [14, 17, 17, 17, 21, 18, 13],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'S' => [15, 16, 16, 14, 1, 1, 30],
        'T' => [31, 4, 4, 4, 4, 4, 4],
        'U' => [17, 17, 17, 17, 17, 17, 14],
        'V' => [17, 17, 17, 17, 17, 10, 4],
        'W' => [17, 17, 17, 21, 21, 21, 10],
        'X' => [17, 17, 10, 4, 10, 17, 17],
        'Y' => [17, 17, 17, 10, 4, 4, 4],
        'Z' => [31, 1, 2, 4, 8, 16, 31],
        '-' => [0, 0, 0, 31, 0, 0, 0],
        '_' => [0, 0, 0, 0, 0, 0, 31],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        ',' => [0, 0, 0, 0, 12, 4, 8],
        ':' => [0, 12, 12, 0, 12, 12, 0],
        '(' => [2, 4, 8, 8, 8, 4, 2],
        ')' => [8, 4, 2, 2, 2, 4, 8],
        '/' => [0, 1, 2, 4, 8, 16, 0],
        '>' => [8, 4, 2, 1, 2, 4, 8],
        '%' => [24, 25, 2, 4, 8, 19, 3],
        '+' => [0, 4, 4, 31, 4, 4, 0],
        '=' => [0, 0, 31, 0, 31, 0, 0],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_within_the_frame() {
        let mut frame = Frame::black(10, 9);
        write(&mut frame, "I", (1, 1), 1, [255, 0, 0]);
        let dots = |frame: &Frame| frame.rgb().iter().filter(|&&value| value > 0).count();
        // Two serifs of three, a stem of five.
        assert_eq!(dots(&frame), 11);
        #[cfg(feature = "reference")]
        assert_eq!(width("II", 2), 22);
        for at in [(-3, -2), (8, 7), (100, 100), (-100, 0)] {
            write(&mut frame, "impasto 30 fps", at, 3, [0, 9, 0]);
        }
    }
}
