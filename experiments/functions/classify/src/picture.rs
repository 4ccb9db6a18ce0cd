//! From the text of a request to the pixels that the network takes.

use alloc::string::String;
use alloc::vec::Vec;

/// The side of the pictures that the network takes.
pub(crate) const SIDE: usize = 64;
const SIDE_MAX: usize = 1024;

/// Reads base64 of a binary PGM, and shrinks it to the side of the network.
pub(crate) fn read(body: &[u8]) -> Result<Vec<u8>, String> {
    let file = base64(body.trim_ascii()).ok_or("that is not base64")?;
    let (side, pixels) = pgm(&file)?;
    Ok(shrink(side, pixels))
}

/// Undoes base64 with its padding (RFC 4648 §4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"="));
    let digits = digits.unwrap_or(text);
    if text.len() % 4 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | value(*digit)?;
        }
        // Six bits for each digit that is missing, so that the first byte is in the same place.
        bits <<= 6 * (4 - group.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(&decoded[..group.len() * 3 / 4]);
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// The side and the pixels of a PGM of 255 shades.
fn pgm(file: &[u8]) -> Result<(usize, &[u8]), String> {
    let head = "no head of a PGM with 255 shades";
    let rest = file.strip_prefix(b"P5").ok_or(head)?;
    let (width, rest) = number(rest).ok_or(head)?;
    let (height, rest) = number(rest).ok_or(head)?;
    let (shades, rest) = number(rest).ok_or(head)?;
    let (space, pixels) = rest.split_first().ok_or(head)?;
    if shades != 255 || !space.is_ascii_whitespace() {
        return Err(head.into());
    }
    if width != height || width % SIDE != 0 || !(SIDE..=SIDE_MAX).contains(&width) {
        return Err(alloc::format!(
            "its sides are not the same multiple of {SIDE} up to {SIDE_MAX}"
        ));
    }
    if pixels.len() != width * height {
        return Err("it has too few or too many pixels".into());
    }
    Ok((width, pixels))
}

/// One space and a number of at most four digits, and what follows.
fn number(text: &[u8]) -> Option<(usize, &[u8])> {
    let (space, rest) = text.split_first()?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !space.is_ascii_whitespace() || !(1..=4).contains(&digits) {
        return None;
    }
    let (digits, rest) = rest.split_at(digits);
    let number = core::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number, rest))
}

/// To the side of the network: each pixel is the mean of a block.
fn shrink(side: usize, pixels: &[u8]) -> Vec<u8> {
    let block = side / SIDE;
    let mut small = Vec::with_capacity(SIDE * SIDE);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let lines = pixels[row * block * side..].chunks(side).take(block);
            let inside = lines.flat_map(|line| &line[column * block..(column + 1) * block]);
            let sum: usize = inside.map(|pixel| usize::from(*pixel)).sum();
            // The mean of bytes is a byte.
            small.push((sum / (block * block)) as u8);
        }
    }
    small
}
