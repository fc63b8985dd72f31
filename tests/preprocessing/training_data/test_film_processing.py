"""Simulated processing of films: what each does to grey values."""

import numpy as np
import pytest

from boneage.preprocessing.synthetic import draw_radiograph
from boneage.preprocessing.training_data import film_processing
from boneage.preprocessing.training_data.film_processing import process_film

DRAWN = draw_radiograph(120, sex="female", seed=1, size_px=(256, 208))


@pytest.mark.parametrize("seed", range(20))
def test_process_film_keeps_shape_and_is_seeded(seed):
    once, again = (process_film(DRAWN.pixels, rng=np.random.default_rng(seed)) for _ in range(2))
    assert once.shape == DRAWN.pixels.shape and once.dtype == np.uint8
    assert np.ptp(once.astype(int)) > 50
    np.testing.assert_array_equal(once, again)


def test_print_on_paper_darkens_soft_tissue_more_than_bone():
    printed = film_processing._print_on_paper(DRAWN.pixels, rng=np.random.default_rng(0)).astype(float)
    middle, bright = np.quantile(DRAWN.pixels[DRAWN.mask], (0.5, 0.98))
    lost = [1 - printed[DRAWN.pixels == round(grey)].mean() / grey for grey in (middle, bright) if grey in DRAWN.pixels]
    assert len(lost) == 2 and lost[0] > lost[1]


def test_burn_out_clips_only_bright_greys():
    burnt = film_processing._burn_out(DRAWN.pixels, rng=np.random.default_rng(0))
    limit = burnt.max()
    assert limit < DRAWN.pixels.max()
    np.testing.assert_array_equal(burnt, np.minimum(DRAWN.pixels, limit))
