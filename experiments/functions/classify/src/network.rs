//! The network: convolutions of three by three, the mean over the picture, and one full layer.
//!
//! Values and weights are bytes. A sum of their products fits into 32 bits, and is brought back to a
//! byte by a multiplier of its own for each channel, rounded and cut off below zero.

use alloc::vec;
use alloc::vec::Vec;
use core::arch::wasm32::{
    i16x8, i32x4_add, i32x4_dot_i16x8, i32x4_extract_lane, i32x4_splat, v128,
};

use crate::picture::SIDE;

/// What was found.
pub(crate) struct Found {
    pub(crate) label: &'static str,
    /// How sure that is, in ten-thousandths.
    pub(crate) score: u32,
}

/// Of each layer biases, multipliers and weights; then the last one.
static WEIGHTS: &[u8] = include_bytes!("weights.bin");

const LABELS: [&str; 10] = [
    "disc", "ring", "square", "frame", "triangle", "star", "cross", "arrow", "half", "bars",
];

struct Layer {
    inputs: usize,
    outputs: usize,
    /// Whether the picture is half as wide and high after it.
    halves: bool,
}

const LAYERS: [Layer; 6] = [
    layer(1, 16, true),
    layer(16, 32, false),
    layer(32, 32, true),
    layer(32, 64, false),
    layer(64, 64, true),
    layer(64, 64, false),
];

const fn layer(inputs: usize, outputs: usize, halves: bool) -> Layer {
    Layer {
        inputs,
        outputs,
        halves,
    }
}

/// What a layer's multipliers are scaled by, in bits.
const SCALE_BITS: u32 = 24;
/// Numbers that are multiplied at once; rows of patches and weights are filled up with zeros to it.
const LANES: usize = 8;

/// Looks at a picture of [`SIDE`] times [`SIDE`] pixels.
pub(crate) fn classify(picture: Vec<u8>) -> Found {
    let mut file = WEIGHTS;
    let mut values = picture;
    let mut side = SIDE;
    for layer in &LAYERS {
        values = convolve(&values, side, layer, &mut file);
        if layer.halves {
            values = halve(&values, side, layer.outputs);
            side /= 2;
        }
    }
    decide(&values, &mut file)
}

/// One layer over a whole picture. `values` and the result have the channels of a pixel side by side.
#[target_feature(enable = "simd128")]
fn convolve(values: &[u8], side: usize, layer: &Layer, file: &mut &[u8]) -> Vec<u8> {
    let biases: Vec<i32> = (0..layer.outputs).map(|_| take_i32(file)).collect();
    let multipliers: Vec<i32> = (0..layer.outputs).map(|_| take_i32(file)).collect();
    let length = (9 * layer.inputs).div_ceil(LANES);
    let mut row = vec![0; length * LANES];
    let mut weights = Vec::with_capacity(layer.outputs * length);
    for _ in 0..layer.outputs {
        for (weight, byte) in row.iter_mut().zip(take(file, 9 * layer.inputs)) {
            *weight = i16::from(byte.cast_signed());
        }
        pack(&row, &mut weights);
    }

    let padded = pad(values, side, layer.inputs);
    let across = (side + 2) * layer.inputs;
    let three = 3 * layer.inputs;
    let mut patch = vec![0; length * LANES];
    let mut patch_lanes = Vec::with_capacity(length);
    let mut out = Vec::with_capacity(side * side * layer.outputs);
    for row in 0..side {
        for column in 0..side {
            let corner = row * across + column * layer.inputs;
            for (line, part) in patch[..3 * three].chunks_exact_mut(three).enumerate() {
                let start = corner + line * across;
                part.copy_from_slice(&padded[start..start + three]);
            }
            patch_lanes.clear();
            pack(&patch, &mut patch_lanes);
            let channels = biases.iter().zip(&multipliers);
            for (row, (bias, multiplier)) in weights.chunks_exact(length).zip(channels) {
                out.push(scale(dot(&patch_lanes, row) + bias, *multiplier));
            }
        }
    }
    out
}

/// Appends numbers as values of the processor, [`LANES`] in each.
#[inline]
#[target_feature(enable = "simd128")]
fn pack(numbers: &[i16], packed: &mut Vec<v128>) {
    for eight in numbers.chunks_exact(LANES) {
        if let [a, b, c, d, e, f, g, h] = *eight {
            packed.push(i16x8(a, b, c, d, e, f, g, h));
        }
    }
}

/// The products of a patch with one row of weights, added up.
#[inline]
#[target_feature(enable = "simd128")]
fn dot(patch: &[v128], row: &[v128]) -> i32 {
    let mut sums = i32x4_splat(0);
    for (values, weights) in patch.iter().zip(row) {
        sums = i32x4_add(sums, i32x4_dot_i16x8(*values, *weights));
    }
    i32x4_extract_lane::<0>(sums)
        + i32x4_extract_lane::<1>(sums)
        + i32x4_extract_lane::<2>(sums)
        + i32x4_extract_lane::<3>(sums)
}

/// Back to a byte.
fn scale(sum: i32, multiplier: i32) -> u8 {
    let half = 1 << (SCALE_BITS - 1);
    let scaled = (i64::from(sum) * i64::from(multiplier) + half) >> SCALE_BITS;
    scaled.clamp(0, 255) as u8
}

/// With a border of zeros, as the numbers that are multiplied.
fn pad(values: &[u8], side: usize, channels: usize) -> Vec<i16> {
    let across = (side + 2) * channels;
    let mut padded = vec![0_i16; (side + 2) * across];
    for (row, line) in values.chunks_exact(side * channels).enumerate() {
        let start = (row + 1) * across + channels;
        for (place, value) in padded[start..].iter_mut().zip(line) {
            *place = i16::from(*value);
        }
    }
    padded
}

/// Keeps the largest of each four pixels, channel by channel.
fn halve(values: &[u8], side: usize, channels: usize) -> Vec<u8> {
    let mut out = vec![0; values.len() / 4];
    for (index, pixel) in values.chunks_exact(channels).enumerate() {
        let (row, column) = (index / side, index % side);
        let start = (row / 2 * (side / 2) + column / 2) * channels;
        for (place, value) in out[start..].iter_mut().zip(pixel) {
            *place = (*place).max(*value);
        }
    }
    out
}

/// The last layer: how much each label is worth, and the best one's share.
fn decide(values: &[u8], file: &mut &[u8]) -> Found {
    let channels = LAYERS[LAYERS.len() - 1].outputs;
    let mut sums = vec![0_i32; channels];
    for pixel in values.chunks_exact(channels) {
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += i32::from(*value);
        }
    }
    let mut logits = LABELS.map(|_| take_i32(file));
    let scale = take(file, 8).try_into().map_or(0.0, f64::from_le_bytes);
    for logit in &mut logits {
        for (sum, byte) in sums.iter().zip(take(file, channels)) {
            *logit += sum * i32::from(byte.cast_signed());
        }
    }
    let mut best = 0;
    for index in 1..logits.len() {
        if logits[index] > logits[best] {
            best = index;
        }
    }
    let others = logits
        .iter()
        .map(|logit| exp(f64::from(logit - logits[best]) * scale));
    Found {
        label: LABELS[best],
        score: (10_000.0 / others.sum::<f64>() + 0.5) as u32,
    }
}

/// e to the power of a number that is not above zero: of its 1024th part by the series, and the result
/// squared ten times. Good to eleven digits, where four are shown.
fn exp(power: f64) -> f64 {
    // What is smaller adds nothing that would be seen, and the series is not made for it.
    let part = power.max(-64.0) / 1024.0;
    let mut value = 1.0 + part * (1.0 + part / 2.0 * (1.0 + part / 3.0 * (1.0 + part / 4.0)));
    for _ in 0..10 {
        value *= value;
    }
    value
}

/// The next bytes of the weights.
fn take<'a>(file: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = file.split_at(count);
    *file = rest;
    taken
}

fn take_i32(file: &mut &[u8]) -> i32 {
    take(file, 4).try_into().map_or(0, i32::from_le_bytes)
}
