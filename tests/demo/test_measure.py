"""The measurement finds known signal-to-noise ratios, noise floors and delays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from tests.demo.measure import (
    Figures,
    MeasurementError,
    Samples,
    Sound,
    align,
    compare,
    level_db,
    load,
    snr_db,
)

RATE = 16_000


def voice(seconds: float = 6.0, rate: int = RATE) -> Sound:
    """Tones with a moving pitch, one second off and one second on."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = np.cumsum(180 + 60 * np.sin(2 * np.pi * 0.7 * time)) / rate
    tones = np.sum([np.sin(2 * np.pi * harmonic * pitch) / harmonic for harmonic in range(1, 15)], axis=0)
    return Sound(np.where(time % 2 < 1, 0.0, 0.1 * tones), rate)


def noise(sound: Sound, below_db: float, seed: int = 1) -> Samples:
    """White noise so many dB under the whole recording's level."""
    random = np.random.default_rng(seed).standard_normal(len(sound.samples))
    return np.asarray(random * 10 ** ((level_db(sound.samples) - below_db) / 20) / random.std())


def with_noise(sound: Sound, below_db: float, seed: int = 1) -> Sound:
    return Sound(sound.samples + noise(sound, below_db, seed), sound.rate)


@pytest.mark.parametrize("ratio", [-3.0, 0.0, 9.0, 30.0])
def test_a_known_ratio_is_found(ratio: float) -> None:
    clean = voice()
    assert snr_db(with_noise(clean, ratio).samples, clean.samples) == pytest.approx(ratio, abs=0.2)


def test_both_figures_are_found_at_once() -> None:
    clean = voice()
    figures = compare(with_noise(clean, 8), clean, with_noise(clean, 28, seed=2)).figures
    assert figures.snr_gain_db == pytest.approx(20, abs=0.3)
    assert figures.floor_drop_db == pytest.approx(20, abs=0.3)
    assert figures.noisy_floor_db == pytest.approx(level_db(clean.samples) - 8, abs=0.3)


def test_turning_the_volume_changes_nothing() -> None:
    clean = voice()
    noisy, restored = with_noise(clean, 8), with_noise(clean, 20, seed=2)
    louder = Sound(restored.samples * 2.5, RATE)
    assert compare(noisy, clean, louder).figures.restored_floor_db == pytest.approx(
        compare(noisy, clean, restored).figures.restored_floor_db
    )


@pytest.mark.parametrize("delay", [0.0, 7.0, 7.5, 1105.25, -300.4])
def test_a_delay_is_undone(delay: float) -> None:
    clean = voice()
    length = len(clean.samples) + 4 * RATE
    spectrum = np.fft.rfft(np.pad(clean.samples, (0, 4 * RATE)))
    delayed = np.fft.irfft(spectrum * np.exp(-2j * np.pi * np.fft.rfftfreq(length) * delay), length)
    aligned = align(Sound(delayed, RATE), clean)
    assert snr_db(aligned.samples, clean.samples) > 25


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_another_sample_rate_is_brought_back(rate: int) -> None:
    clean = voice()
    low = signal.sosfiltfilt(signal.butter(8, 3_000, fs=RATE, output="sos"), clean.samples)
    band_limited = Sound(np.asarray(low), RATE)
    other = Sound(np.asarray(signal.resample(low, round(len(low) * rate / RATE))), rate)
    assert compare(band_limited, band_limited, other).figures.restored_snr_db > 25


def test_an_mp3_is_decoded_and_its_delay_undone(tmp_path: Path) -> None:
    clean = voice()
    soundfile.write(tmp_path / "restored.mp3", with_noise(clean, 30).samples, RATE)
    figures = compare(with_noise(clean, 8), clean, load(tmp_path / "restored.mp3")).figures
    assert figures.snr_gain_db > 12
    assert figures.floor_drop_db > 12


def test_two_channels_become_one(tmp_path: Path) -> None:
    clean = voice()
    soundfile.write(tmp_path / "both.wav", np.stack([clean.samples, clean.samples], axis=1), RATE)
    assert load(tmp_path / "both.wav").samples.shape == clean.samples.shape


def test_muting_everything_is_no_restoration() -> None:
    clean = voice()
    with pytest.raises(MeasurementError, match="nothing of the clean speech"):
        compare(with_noise(clean, 8), clean, Sound(np.zeros(len(clean.samples)), RATE))


def test_gating_the_pauses_alone_does_not_raise_the_ratio_much() -> None:
    clean = voice()
    noisy = with_noise(clean, 8)
    gated = Sound(np.where(clean.samples == 0, 0.0, noisy.samples), RATE)
    figures = compare(noisy, clean, gated).figures
    assert figures.floor_drop_db > 40
    assert figures.snr_gain_db < 4


def test_speech_without_pauses_can_not_be_measured() -> None:
    hum = Sound(np.sin(np.arange(3 * RATE) / 20), RATE)
    with pytest.raises(MeasurementError, match="no pauses"):
        compare(hum, hum, hum)


def test_an_empty_recording_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(MeasurementError, match=r"empty\.wav"):
        load(tmp_path / "empty.wav")


def test_the_gains_are_differences() -> None:
    figures = Figures(noisy_snr_db=8.0, restored_snr_db=14.5, noisy_floor_db=-35.0, restored_floor_db=-55.0)
    assert (figures.snr_gain_db, figures.floor_drop_db) == (6.5, 20.0)


def test_the_example_recording_is_as_noisy_as_it_says() -> None:
    recordings = Path(__file__).parents[2] / "example_dags" / "recordings"
    clean, noisy = load(recordings / "clean_speech.flac"), load(recordings / "noisy_speech.wav")
    figures = compare(noisy, clean, clean).figures
    assert figures.noisy_snr_db == pytest.approx(8, abs=0.1)
    assert figures.noisy_floor_db - figures.restored_floor_db > 60
    assert 12 <= clean.seconds <= 20
