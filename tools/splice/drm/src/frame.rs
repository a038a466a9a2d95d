// SPDX-License-Identifier: GPL-2.0

//! A picture as a display controller reads it, and as a PNG file.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

/// The bytes of a pixel.
pub const PIXEL: usize = 4;

/// A picture in the format XRGB8888: each pixel is a blue, a green, a red and an unused byte,
/// without gaps between the lines.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

/// A square of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    pub x: u32,
    pub y: u32,
    pub side: u32,
}

impl Square {
    /// The number of its pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.side) * u64::from(self.side)
    }
}

/// How two pictures of the same size differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The number of pixels that differ.
    pub pixels: u64,
    /// The first of them, line by line.
    pub first: Option<(u32, u32)>,
}

impl Frame {
    /// A picture that has the colour `colour(x, y)` (red, green, blue) at each pixel.
    pub fn new(width: u32, height: u32, mut colour: impl FnMut(u32, u32) -> [u8; 3]) -> Self {
        let mut bytes = Vec::with_capacity(width as usize * height as usize * PIXEL);
        for y in 0..height {
            for x in 0..width {
                let [red, green, blue] = colour(x, y);
                bytes.extend([blue, green, red, 0]);
            }
        }
        Self {
            width,
            height,
            bytes,
        }
    }

    /// A picture from bytes in the format XRGB8888.
    pub fn from_bytes(width: u32, height: u32, bytes: Vec<u8>) -> Result<Self> {
        let wanted = width as usize * height as usize * PIXEL;
        ensure!(
            bytes.len() == wanted,
            "a picture of {width} x {height} has {wanted} bytes, not {}",
            bytes.len()
        );
        Ok(Self {
            width,
            height,
            bytes,
        })
    }

    /// Reads a PNG file with three or four channels of 8 bits.
    pub fn read_png(path: &Path) -> Result<Self> {
        let name = path.display();
        let file = File::open(path).with_context(|| name.to_string())?;
        let mut decoder = Decoder::new(BufReader::new(file));
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
        let mut reader = decoder.read_info().with_context(|| name.to_string())?;
        let size = reader.output_buffer_size().context("a huge picture")?;
        let mut pixels = vec![0; size];
        let info = reader
            .next_frame(&mut pixels)
            .with_context(|| name.to_string())?;
        let channels = match (info.color_type, info.bit_depth) {
            (ColorType::Rgb, BitDepth::Eight) => 3,
            (ColorType::Rgba, BitDepth::Eight) => 4,
            other => bail!("{name}: unknown pixels: {other:?}"),
        };
        let bytes = pixels[..info.buffer_size()]
            .chunks_exact(channels)
            .flat_map(|pixel| [pixel[2], pixel[1], pixel[0], 0])
            .collect();
        Self::from_bytes(info.width, info.height, bytes).with_context(|| name.to_string())
    }

    /// Writes a PNG file, and waits until the file system has it.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let name = path.display();
        let file = File::create(path).with_context(|| name.to_string())?;
        let mut encoder = Encoder::new(BufWriter::new(&file), self.width, self.height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let pixels: Vec<u8> = self
            .bytes
            .chunks_exact(PIXEL)
            .flat_map(|pixel| [pixel[2], pixel[1], pixel[0]])
            .collect();
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        file.sync_all().with_context(|| name.to_string())
    }

    /// The bytes in the format XRGB8888.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes of a line.
    pub fn pitch(&self) -> u32 {
        self.width * PIXEL as u32
    }

    /// The same picture with other colours: red, green and blue change places `turns` times.
    pub fn turned(&self, turns: u32) -> Self {
        let mut frame = self.clone();
        for pixel in frame.bytes.chunks_exact_mut(PIXEL) {
            pixel[..3].rotate_left(turns as usize % 3);
        }
        frame
    }

    /// The same picture, moved to the left by `pixels`. What leaves it on the left enters it
    /// on the right.
    pub fn moved(&self, pixels: u32) -> Self {
        let mut frame = self.clone();
        let by = (pixels % self.width) as usize * PIXEL;
        for line in frame.bytes.chunks_exact_mut(self.pitch() as usize) {
            line.rotate_left(by);
        }
        frame
    }

    /// Inverts the colours of a square, so that each of its pixels changes. Returns the
    /// changed parts: where each begins, in bytes, and its new bytes.
    pub fn invert(&mut self, square: Square) -> Vec<(u64, Vec<u8>)> {
        assert!(square.x + square.side <= self.width && square.y + square.side <= self.height);
        let len = square.side as usize * PIXEL;
        (square.y..square.y + square.side)
            .map(|y| {
                let at = (y * self.pitch()) as usize + square.x as usize * PIXEL;
                let line = &mut self.bytes[at..at + len];
                for pixel in line.chunks_exact_mut(PIXEL) {
                    for channel in &mut pixel[..3] {
                        *channel = !*channel;
                    }
                }
                (at as u64, line.to_vec())
            })
            .collect()
    }

    /// Compares the colours of all pixels. The unused byte does not count. Fails if the sizes
    /// differ.
    pub fn compare(&self, other: &Self) -> Result<Difference> {
        ensure!(
            (self.width, self.height) == (other.width, other.height),
            "the picture is {} x {} pixels, and {} x {} are shown",
            self.width,
            self.height,
            other.width,
            other.height
        );
        let pairs = self
            .bytes
            .chunks_exact(PIXEL)
            .zip(other.bytes.chunks_exact(PIXEL));
        let mut difference = Difference {
            pixels: 0,
            first: None,
        };
        for (at, (ours, theirs)) in (0u32..).zip(pairs) {
            if ours[..3] != theirs[..3] {
                difference.pixels += 1;
                difference
                    .first
                    .get_or_insert((at % self.width, at / self.width));
            }
        }
        Ok(difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::PathBuf;

    /// A picture whose pixels all differ.
    fn frame() -> Frame {
        Frame::new(30, 20, |x, y| [x as u8, y as u8, 200])
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("splice-drm-{name}-{}.png", std::process::id()))
    }

    #[test]
    fn equal_pictures_do_not_differ() {
        let none = Difference {
            pixels: 0,
            first: None,
        };
        assert_eq!(frame().compare(&frame()).unwrap(), none);
    }

    #[test]
    fn one_pixel_that_differs_is_found_wherever_it_is() {
        let frame = frame();
        for (x, y) in [(0, 0), (29, 0), (13, 7), (0, 19), (29, 19)] {
            for channel in 0..3 {
                for bit in [0x01, 0x80] {
                    let mut other = frame.clone();
                    other.bytes[(y * 30 + x) as usize * PIXEL + channel] ^= bit;
                    let difference = frame.compare(&other).unwrap();
                    assert_eq!(difference.pixels, 1);
                    assert_eq!(difference.first, Some((x, y)));
                }
            }
        }
    }

    #[test]
    fn the_unused_byte_is_not_compared() {
        let mut other = frame();
        other.bytes[3] = 0xff;
        assert_eq!(frame().compare(&other).unwrap().pixels, 0);
    }

    #[test]
    fn another_size_is_an_error() {
        for (width, height) in [(20, 30), (30, 19), (60, 10)] {
            let other = Frame::new(width, height, |_, _| [0; 3]);
            assert!(frame().compare(&other).is_err());
        }
    }

    #[test]
    fn a_square_changes_its_pixels_and_no_others() {
        let square = Square {
            x: 3,
            y: 5,
            side: 10,
        };
        let before = frame();
        let mut after = before.clone();
        let parts = after.invert(square);
        let difference = before.compare(&after).unwrap();
        assert_eq!(difference.pixels, square.pixels());
        assert_eq!(difference.first, Some((3, 5)));
        // Writing the parts into the old bytes has the same result.
        let mut bytes = before.bytes.clone();
        for (at, part) in &parts {
            bytes[*at as usize..][..part.len()].copy_from_slice(part);
        }
        assert_eq!(bytes, after.bytes);
        after.invert(square);
        assert!(before == after);
    }

    #[test]
    fn turned_and_moved_pictures_differ_from_each_other() {
        let frame = frame();
        for other in [frame.turned(1), frame.turned(2), frame.moved(1)] {
            assert!(frame.compare(&other).unwrap().pixels > 500);
        }
        assert!(frame.turned(3) == frame);
        assert!(frame.moved(30) == frame);
        assert!(frame.moved(29).moved(1) == frame);
    }

    #[test]
    fn a_png_file_has_every_pixel() {
        let path = file("pixels");
        frame().write_png(&path).unwrap();
        let read = Frame::read_png(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(read == frame());
    }

    #[test]
    fn a_damaged_png_file_is_an_error() {
        let path = file("damaged");
        frame().write_png(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&path, &bytes).unwrap();
        let read = Frame::read_png(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(read.is_err());
    }
}
