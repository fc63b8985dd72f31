"""The figures: each panel shows something, and what it shows depends on the data."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from boneage.evaluation.plots import plot_evaluation, plot_history, plot_sex, save_figure
from boneage.evaluation.summarise import summarise

INK_LEVEL = 250  # Grey levels below it are drawn, above it are paper.


def make_frame(num_images, *, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(6, 228, num_images).astype(float)
    return pd.DataFrame(
        {
            "id": [str(1377 + index) for index in range(num_images)],
            "sex": random.choice(["female", "male"], num_images),
            "bone_age_months": labels,
            "predicted_months": labels + random.normal(0, 9, num_images),
        }
    )


def draw(frame, path):
    save_figure(plot_evaluation(frame, summarise(frame, num_resamples=5)), path)


def read(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has_colour(pixels, colour):
    """Whether a pure colour, written as `#RRGGBB`, occurs."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return (pixels == wanted).all(axis=-1).any()


def test_evaluation_has_three_panels_with_content(tmp_path):
    frame = make_frame(60)
    evaluation = summarise(frame, dataset="test split", num_resamples=20)
    save_figure(plot_evaluation(frame, evaluation), tmp_path / "card.png")
    pixels = read(tmp_path / "card.png")
    assert pixels.shape[1] > 2 * pixels.shape[0]
    panels = np.array_split(pixels, 3, axis=1)
    for panel in panels:
        drawn = (panel.min(axis=-1) < INK_LEVEL).mean()
        assert 0.01 < drawn < 0.6
        # Text, lines and grid are grey: colour means that images or bars were drawn.
        assert (np.ptp(panel, axis=-1) > 60).sum() > 500
    assert has_colour(panels[2], "#56B4E9")
    assert has_colour(panels[2], "#E69F00")
    assert [path.name for path in tmp_path.iterdir()] == ["card.png"]


@pytest.mark.parametrize("num_images", [1, 2, 2000])
def test_evaluation_of_few_and_of_many_images(tmp_path, num_images):
    frame = make_frame(num_images)
    save_figure(plot_evaluation(frame, summarise(frame, num_resamples=1)), tmp_path / "card.png")
    assert read(tmp_path / "card.png").std() > 5


def test_evaluation_shows_images_of_unknown_sex(tmp_path):
    frame = make_frame(4).assign(sex=None)
    draw(frame, tmp_path / "unknown.png")
    scatter = np.array_split(read(tmp_path / "unknown.png"), 3, axis=1)[0]
    assert has_colour(scatter, "#777777")
    assert not has_colour(scatter, "#D55E00")
    assert not has_colour(scatter, "#0072B2")


def test_scatter_draws_each_sex_in_its_colour(tmp_path):
    frame = make_frame(20)
    draw(frame, tmp_path / "both.png")
    both = read(tmp_path / "both.png")
    assert has_colour(both, "#D55E00")
    assert has_colour(both, "#0072B2")
    draw(frame[frame["sex"] == "male"], tmp_path / "male.png")
    assert not has_colour(read(tmp_path / "male.png"), "#D55E00")


def test_sexes_are_told_apart_in_matrix_and_histogram(tmp_path):
    frame = pd.DataFrame({"sex": ["female"] * 8 + ["male"] * 4, "male_probability": [0.1] * 6 + [0.8] * 2 + [0.9] * 4})
    figure = plot_sex(frame, {"female": {"female": 6, "male": 2}, "male": {"female": 0, "male": 4}})
    save_figure(figure, tmp_path / "sex.png")
    matrix, histogram = np.array_split(read(tmp_path / "sex.png"), 2, axis=1)
    assert (np.ptp(matrix, axis=-1) > 60).sum() > 2000
    assert (np.ptp(histogram, axis=-1) > 60).sum() > 2000


def test_the_same_data_draw_the_same_file_and_other_data_another(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw(make_frame(20, seed=seed), tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_history_draws_train_and_validation(tmp_path):
    epochs = np.arange(1, 6)
    history = pd.DataFrame({"epoch": epochs, "loss": 1.0, "mae": 40 / epochs, "val_mae": 45 / epochs})
    save_figure(plot_history(history), str(tmp_path / "history.png"))
    pixels = read(tmp_path / "history.png")
    assert has_colour(pixels, "#0072B2")
    assert has_colour(pixels, "#D55E00")
    save_figure(plot_history(history[:3]), tmp_path / "shorter.png")
    assert not np.array_equal(read(tmp_path / "shorter.png"), pixels)


def test_history_of_a_diverged_run_is_drawn_as_far_as_it_goes(tmp_path):
    diverged = [{"epoch": 1, "mae": 30.0, "val_mae": np.nan}, {"epoch": 2, "mae": np.nan, "val_mae": np.nan}]
    save_figure(plot_history(pd.DataFrame(diverged)), tmp_path / "history.png")
    assert has_colour(read(tmp_path / "history.png"), "#0072B2")


def test_a_figure_that_cannot_be_drawn_leaves_the_old_file(tmp_path):
    path, frame = tmp_path / "card.png", make_frame(5)
    draw(frame, path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        save_figure(plot_evaluation(frame.drop(columns="sex"), summarise(frame, num_resamples=5)), path)
    assert path.read_bytes() == before


def test_pyplot_stays_out(tmp_path):
    loaded_before = "matplotlib.pyplot" in sys.modules
    draw(make_frame(3), tmp_path / "card.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded_before


def test_a_figure_shows_itself_in_a_notebook():
    figure = summarise(make_frame(9), num_resamples=5).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
