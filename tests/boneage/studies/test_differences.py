"""Differences: the worked examples of the papers, to the last digit that they give."""

import math

import numpy as np
import pandas as pd
import pytest

from boneage.studies.differences import find_reader_sd, measure_limits, measure_repeatability, subtract_readers

# Bland and Altman 1986, peak expiratory flow in l/min: Wright meter twice, mini meter.
WRIGHT = np.array([494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427], float)
WRIGHT_AGAIN = np.array([490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421], float)
MINI = np.array([512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451], float)


def test_measure_limits_gives_the_example_of_bland_and_altman():
    limits = measure_limits(WRIGHT - MINI, num_sds=2.0)
    assert (limits.num_radiographs, round(limits.bias.value, 2), round(limits.sd, 2)) == (17, -2.12, 38.77)
    # The paper computes them from the rounded mean and standard deviation.
    assert (limits.low.value, limits.high.value) == pytest.approx((-79.6, 75.4), abs=0.06)
    # Its intervals: -22.0 to 17.8 of the bias, -114.3 to -45.1 of the lower limit.
    assert (limits.bias.low, limits.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)
    assert (limits.low.low, limits.low.high) == pytest.approx((-114.3, -45.1), abs=0.7)


def test_measure_repeatability_gives_the_example_of_bland_and_altman():
    repeated = measure_repeatability(WRIGHT_AGAIN - WRIGHT, num_sds=2.0)
    assert (repeated.num_pairs, round(repeated.dahlberg_months.value, 2)) == (17, 15.31)
    assert round(repeated.coefficient_months.value, 1) == 43.3


def test_subtract_readers_gives_the_example_of_thodberg():
    reader_sd = 0.63 / math.sqrt(2)
    assert round(reader_sd, 3) == 0.445
    assert round(subtract_readers(0.61, reader_sd=reader_sd, num_readers=2), 3) == 0.522
    assert subtract_readers(0.1, reader_sd=reader_sd, num_readers=2) == 0


def test_find_reader_sd_of_readers_who_never_met_is_unknown():
    assert find_reader_sd(pd.DataFrame([[1.0, math.nan], [math.nan, 2.0], [3.0, math.nan]])) is None
