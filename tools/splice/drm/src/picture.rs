// SPDX-License-Identifier: GPL-2.0

//! The test picture, and how it changes.

use crate::frame::{Frame, Square};

/// The size in pixels. A display of every driver has this mode, and the picture is a whole
/// number of pages (300).
pub const WIDTH: u32 = 640;
pub const HEIGHT: u32 = 480;

/// The square that is written to a file while its picture is shown.
pub const SQUARE: Square = Square {
    x: 100,
    y: 60,
    side: 64,
};

/// By how many pixels a picture of a run is to the left of the one before.
const STEP: u32 = 16;

/// The picture with a number in a run through one pipe.
pub fn frame_of_run(picture: &Frame, number: u32) -> Frame {
    picture.moved(number * STEP)
}

/// Gradients in the upper part, and bars of pure colours below, with a white frame and two
/// white diagonals. No line equals another one, so that a page or a line at a wrong place is
/// seen.
pub fn picture() -> Frame {
    const BARS: [[u8; 3]; 8] = [
        [255, 255, 255],
        [255, 255, 0],
        [0, 255, 255],
        [0, 255, 0],
        [255, 0, 255],
        [255, 0, 0],
        [0, 0, 255],
        [0, 0, 0],
    ];
    let part = |at: u32, of: u32| (at * 255 / (of - 1)) as u8;
    Frame::new(WIDTH, HEIGHT, |x, y| {
        let border = x == 0 || y == 0 || x == WIDTH - 1 || y == HEIGHT - 1;
        // The diagonals end in the corners.
        let along = y * (WIDTH - 1) / (HEIGHT - 1);
        if border || x == along || x == WIDTH - 1 - along {
            [255; 3]
        } else if y < HEIGHT * 3 / 4 {
            [part(x, WIDTH), part(y, HEIGHT), 255 - part(x, WIDTH)]
        } else {
            BARS[(x * BARS.len() as u32 / WIDTH) as usize]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashSet;

    #[test]
    fn it_is_a_whole_number_of_pages() {
        assert_eq!(picture().bytes().len(), 300 * 4096);
    }

    #[test]
    fn no_line_equals_another_one() {
        let picture = picture();
        let lines: HashSet<_> = picture
            .bytes()
            .chunks_exact(picture.pitch() as usize)
            .collect();
        // All but the last line, which is as white as the first.
        assert_eq!(lines.len(), HEIGHT as usize - 1);
    }

    #[test]
    fn pictures_with_other_colours_differ_in_most_pixels() {
        for turns in [1, 2] {
            let difference = picture().compare(&picture().turned(turns)).unwrap();
            assert!(difference.pixels > u64::from(WIDTH * HEIGHT) * 7 / 10);
        }
    }

    #[test]
    fn pictures_of_a_run_differ_from_each_other() {
        let picture = picture();
        for number in 1..30 {
            let one = frame_of_run(&picture, number);
            let before = frame_of_run(&picture, number - 1);
            let difference = one.compare(&before).unwrap();
            assert!(difference.pixels > u64::from(WIDTH * HEIGHT) / 2);
            assert!(one != picture);
        }
    }

    #[test]
    fn the_square_is_in_the_picture() {
        let mut changed = picture();
        changed.invert(SQUARE);
        let difference = picture().compare(&changed).unwrap();
        assert_eq!(difference.pixels, SQUARE.pixels());
        assert_eq!(difference.first, Some((SQUARE.x, SQUARE.y)));
    }
}
