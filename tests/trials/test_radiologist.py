"""A radiologist opens the page, sends a film and a picture that is none, and takes the answer along."""

import csv
import io
import re

import httpx
import pytest

pytestmark = pytest.mark.slow

DRAW = """
import numpy as np
from PIL import Image
from boneage.preprocessing.synthetic import draw_radiograph

Image.fromarray(draw_radiograph(120, sex="female", seed=7).pixels).save("hand.png")
Image.fromarray(np.tile(np.linspace(0, 255, 512).astype(np.uint8), (640, 1))).save("empty.png")
"""
TOLERANCE_MONTHS = 40


def read_words(page):
    """Return the text of a page as it is read, without tags."""
    return " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", page, flags=re.S).split())


def test_a_radiologist_reads_a_film_on_the_page(user):
    user.runs(DRAW)
    with (
        user.serves("boneage serve", page="docs/server.md") as address,
        # A browser names the page that a form comes from.
        httpx.Client(base_url=address, timeout=60, follow_redirects=True, headers={"Origin": address}) as browser,
    ):
        assert "Research use. Not a medical device." in read_words(browser.get("/").text)

        files = [("files", (name, (user.folder / name).read_bytes())) for name in ("hand.png", "empty.png")]
        page = browser.post("/", files=files, data={"sex": "female", "age_years": "10"}).text
        words = read_words(page)
        assert "2 readings" in words
        assert "90% interval" in words
        assert "Sex female, as given" in words
        assert "Standard deviation score" in words
        assert "by Brush Foundation (Greulich and Pyle 1959)" in words
        assert "empty.png No bone age This may not be a hand radiograph: no hand was found." in words

        rows = {row["file"]: row for row in csv.DictReader(io.StringIO(browser.get("/readings.csv").text))}
        bone_age_months = float(rows["hand.png"]["bone_age_months"])
        assert bone_age_months == pytest.approx(120, abs=TOLERANCE_MONTHS)
        years, months = divmod(round(bone_age_months), 12)
        assert f"hand.png {years} years {months} month" in words
        assert rows["empty.png"]["reasons"].startswith("no_hand")

        # The report to print, the film, all that the network sees, and where the answer comes from.
        (reading,) = set(re.findall(r"/readings/[\w-]+(?=/occlusion\.png)", page))
        assert f"{years} years {months} month" in read_words(browser.get(reading).text)
        for name in ("film.jpg", "input.png", "occlusion.png"):
            assert browser.get(f"{reading}/{name}").headers["Content-Type"].startswith("image/")
        assert browser.get(f"{reading}/observation.json").json()["resourceType"] == "Observation"

        # Cleared readings are gone.
        browser.post("/forget")
        assert browser.get(reading).status_code == 404
