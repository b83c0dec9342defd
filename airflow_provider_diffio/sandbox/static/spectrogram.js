"use strict";
/* Draws what a recording sounds like: time from left to right, pitch from below to above, loud is bright. */

const SPECTRUM_RATE = 16000;
const SPECTRUM_SIZE = 512;
const RANGE_DB = 75;

/* The samples of a recording as one channel at a fixed rate. Rejects what the browser cannot decode. */
async function decodeMono(bytes) {
  const context = new OfflineAudioContext(1, 1, SPECTRUM_RATE);
  const buffer = await context.decodeAudioData(bytes);
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / buffer.numberOfChannels;
  }
  return mono;
}

/* In place: the Fourier transform of real and imaginary parts whose length is a power of two. */
function transform(real, imaginary) {
  const count = real.length;
  for (let i = 1, j = 0; i < count; i++) {
    let bit = count >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let length = 2; length <= count; length <<= 1) {
    const angle = (-2 * Math.PI) / length;
    for (let start = 0; start < count; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const cosine = Math.cos(angle * k), sine = Math.sin(angle * k);
        const low = start + k, high = low + length / 2;
        const re = real[high] * cosine - imaginary[high] * sine;
        const im = real[high] * sine + imaginary[high] * cosine;
        real[high] = real[low] - re;
        imaginary[high] = imaginary[low] - im;
        real[low] += re;
        imaginary[low] += im;
      }
    }
  }
}

/* Decibels per column and frequency, and the loudest of them. */
function spectrum(samples, columns) {
  const bins = SPECTRUM_SIZE / 2;
  const window = Float32Array.from(
    { length: SPECTRUM_SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SPECTRUM_SIZE));
  const levels = new Float32Array(columns * bins);
  let top = -200;
  for (let column = 0; column < columns; column++) {
    const begin = Math.floor((column * Math.max(0, samples.length - SPECTRUM_SIZE)) / Math.max(1, columns - 1));
    const real = new Float32Array(SPECTRUM_SIZE), imaginary = new Float32Array(SPECTRUM_SIZE);
    for (let i = 0; i < SPECTRUM_SIZE; i++) real[i] = (samples[begin + i] || 0) * window[i];
    transform(real, imaginary);
    for (let bin = 0; bin < bins; bin++) {
      const power = real[bin] ** 2 + imaginary[bin] ** 2;
      const level = 10 * Math.log10(power + 1e-12);
      levels[column * bins + bin] = level;
      if (level > top) top = level;
    }
  }
  return { levels, bins, top };
}

/* Dark to bright by way of violet and orange: a colour map whose brightness alone tells the level, too. */
const STOPS = [[4, 6, 18], [52, 16, 96], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
function colour(share) {
  const position = Math.min(0.9999, Math.max(0, share)) * (STOPS.length - 1);
  const index = Math.floor(position), rest = position - index;
  return STOPS[index].map((low, i) => low + (STOPS[index + 1][i] - low) * rest);
}

/* Draw samples; levels are relative to `top`, so that two recordings can be compared. Returns its own top. */
function drawSpectrogram(canvas, samples, top) {
  const columns = canvas.width, height = canvas.height;
  const found = spectrum(samples, columns);
  const reference = top === undefined ? found.top : top;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, height);
  for (let y = 0; y < height; y++) {
    const bin = Math.min(found.bins - 1, Math.floor(((height - 1 - y) * found.bins) / height));
    for (let x = 0; x < columns; x++) {
      const level = found.levels[x * found.bins + bin];
      const [red, green, blue] = colour((level - reference + RANGE_DB) / RANGE_DB);
      image.data.set([red, green, blue, 255], 4 * (y * columns + x));
    }
  }
  context.putImageData(image, 0, 0);
  return found.top;
}
