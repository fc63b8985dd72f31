"""What people see and do in a browser; `make pictures` keeps the pictures for the documentation."""

import io
import re
import runpy
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps
from rich.console import Console

from boneage.inference.loading import load
from boneage.preprocessing.sources.review_csv import read_reviews
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.review.app import create_review
from boneage.review.decisions import Decisions
from boneage.serve.app import create_app

# The recorded runs that the leaderboard of the documentation compares.
RECORDS = "331928ca2d8a0d86"
PLACE = "([x, y]) => { const at = new DOMPoint(x, y).matrixTransform(film.getScreenCTM()); return [at.x, at.y]; }"


@pytest.fixture
def page(browser):
    """A page on which no script fails and nothing is refused."""
    opened = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark")
    opened.set_default_timeout(60_000)
    faults = []
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    opened.close()
    assert faults == []


@pytest.fixture(scope="module")
def pictures(request, tmp_path_factory):
    """Where pictures are saved: a temporary folder, unless one is given."""
    return request.config.getoption("--pictures") or tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def address(live):
    """The page with the packaged model."""
    return live(create_app(load()))


def save(path, *shots, most_px=1280):
    """Save screenshots as one picture, one below the other, and shrink it to a width."""
    whole = Image.fromarray(np.vstack([np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")) for shot in shots]))
    whole.thumbnail((most_px, 10**4), Image.Resampling.LANCZOS)
    ImageOps.posterize(whole, 6).save(path, optimize=True)  # two thirds of the bytes


def is_wider_than(page, width_px):
    return page.evaluate("document.documentElement.scrollWidth") > width_px


def test_reads_a_drawn_hand_a_dicom_file_a_wall_and_a_broken_file(
    page, address, encode_png, write_hand, pictures, tmp_path
):
    hand = draw_radiograph(132, sex="female", seed=7).pixels
    wall = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (240, 1))
    dicom = write_hand().read_bytes()
    files = {
        "drawing.png": encode_png(hand),
        "IM0001": dicom,
        "<b>wall.png": encode_png(wall),
        "broken.dcm": dicom[: len(dicom) // 2],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    page.goto(address)
    page.set_input_files("#files", [str(tmp_path / name) for name in files])
    assert page.text_content("#chosen") == "4 files"
    assert page.locator("#own-rows legend").all_text_contents() == list(files)
    page.focus("#upload input[value=unknown]")
    for key in ("ArrowUp", "ArrowUp", "Tab", "1", "0", "Tab", "6", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#rows li")
    assert re.match(r"\d of 4: reading ", page.text_content("#count"))
    assert page.locator("#rows li").count() == 4
    page.wait_for_selector(".reading")
    assert page.locator(".reading h3").all_text_contents() == list(files)
    drawn, dicom, wall, broken = page.locator(".reading").all()
    for accepted in (drawn, dicom):
        assert re.search(r"\d+ years? \d+ months?", accepted.locator(".age strong").text_content())
    assert "female" in drawn.locator("dl").text_content()
    assert "10 years 6 months" in drawn.locator("dl").text_content()
    assert "No bone age" in wall.text_content() and "hand" in wall.locator(".reasons").text_content()
    assert "damaged or incomplete" in broken.text_content()
    assert not [identity for identity in ("Müller", "PATIENT-4711") if identity in page.content()]

    # The occlusion map is requested when it is opened.
    drawn.locator(".pictures summary").click()
    drawn.locator(".pictures details img").evaluate("(image) => image.decode()")
    page.wait_for_load_state("networkidle")
    assert page.evaluate(
        "[...document.images].every((each) => each.closest('details:not([open])') || each.naturalWidth)"
    )
    save(pictures / "page.png", drawn.screenshot())

    page.set_viewport_size({"width": 390, "height": 844})
    assert not is_wider_than(page, 390)
    page.click("text=Viewer >> nth=0")
    page.wait_for_selector("#controls:visible")
    assert not is_wider_than(page, 390)
    whole = page.get_attribute("#film", "viewBox")
    page.click("text=Zoom in")
    for key in ("ArrowLeft", "i", "o"):
        page.keyboard.press(key)
    assert page.get_attribute("#film", "viewBox") != whole
    assert page.text_content("#zoomed") == "150%"
    assert page.is_checked("[name=invert]") and page.is_hidden("#outline")
    assert page.get_attribute("#grey feFuncR", "slope") == "-1"
    page.keyboard.press("0")
    assert page.get_attribute("#film", "viewBox") == whole
    page.go_back()
    page.click("text=Printable report >> nth=0")
    page.wait_for_selector("#print:visible")
    assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 1


def test_says_the_age_of_each_file_and_reads_one_again(page, address, encode_png):
    hand = encode_png(draw_radiograph(132, sex="female", seed=7).pixels)
    page.goto(address)
    page.set_input_files("#files", [{"name": f"IM000{n}", "mimeType": "", "buffer": hand} for n in range(3)])
    page.check("#upload [name=sex][value=female]")
    page.fill("#upload [name=birth_date]", "2013-05-01")
    rows = page.locator("#own-rows li")
    for place, taken in ((0, "2022-05-02"), (1, "2023-05-02")):
        rows.nth(place).locator("[data-field=film_date]").fill(taken)
    rows.nth(2).locator("[data-field=film_date]").fill("2023-05-02")
    rows.nth(2).locator("[data-field=age_years]").fill("12")  # what is typed last counts
    assert rows.nth(2).locator("[data-field=film_date]").input_value() == ""
    rows.nth(2).locator("[data-field=sex]").select_option("male")
    page.click("#upload button")
    page.wait_for_selector(".reading")
    told = page.locator(".reading dl").all_text_contents()
    for text, age, sex in zip(told, ("9 years 0 months", "10 years 0 months", "12 years 0 months"), "ffm", strict=True):
        assert f"Chronological age{age}" in text
        assert ("Sexfemale, as given" in text) == (sex == "f")
    card = page.locator(".reading").first
    card.locator("text=Read again as").click()
    assert card.locator("[name=age_years]").input_value() == "9"
    card.locator("[name=sex][value=unknown]").check()
    with page.expect_navigation():
        card.get_by_role("button", name="Read again").click()
    assert "for both sexes" in card.text_content()
    assert page.evaluate("document.activeElement.textContent") == "IM0000"
    assert "2013" not in page.content()


def test_reviews_by_keyboard_and_corrects_a_mask_by_mouse(page, live, drawn_desk, pictures, tmp_path):
    ids = [tile.id for tile in drawn_desk.tiles]
    rows = [f"{ids[1]},reject,", f"{ids[2]},reject,", f"{ids[3]},keep,"]
    (tmp_path / "decisions.ben.csv").write_text("\n".join(["id,decision,value", *rows]) + "\n")
    taken = Decisions(tmp_path / "decisions.csv", reviewer="anna", ids=set(ids))
    page.goto(live(create_review(drawn_desk, taken)))
    assert not is_wider_than(page, 1280)

    # Keys: the first one is chosen; what is decided chooses the next.
    for key in ("ArrowRight", "x", "x", "k", "r", "r", "R", "ArrowRight", "f"):
        page.keyboard.press(key)
    page.wait_for_selector("#hand-5.corrected")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#hand-5.undecided:focus")
    assert page.text_content("#hand-1 .verdict") == "rejected"
    assert page.text_content("#hand-4 .verdict") == "rotated by 90° to the left"
    assert page.text_content("#decided") == "4"
    page.keyboard.press("?")
    page.wait_for_selector("#help:visible")
    page.keyboard.press("x")
    page.keyboard.press("Escape")

    # Reload and filter.
    page.reload()
    page.focus("#hand-4")
    page.wait_for_load_state("networkidle")
    assert page.locator(".hand.undecided").count() == 8
    assert "With ben, 3 decided by both: 100% agree" in page.text_content(".agreement")
    page.evaluate("scrollTo(0, 0)")
    grid = page.screenshot()
    page.select_option("select[name=state]", "undecided")
    page.click("text=Apply")
    page.wait_for_url("**/?state=undecided*")
    assert page.locator(".hand").count() == 8

    # The mask of one of two hands, by a box and two clicks.
    page.keyboard.press("Enter")
    page.wait_for_url("**/hands/0?state=undecided")
    page.wait_for_load_state("networkidle")
    original = page.get_attribute("#outline", "d")
    page.mouse.move(*page.evaluate(PLACE, (1, 1)))
    page.mouse.down()
    page.mouse.move(*page.evaluate(PLACE, (318, 398)), steps=3)
    page.mouse.up()
    page.mouse.click(*page.evaluate(PLACE, (160, 240)))
    page.mouse.click(*page.evaluate(PLACE, (8, 8)), button="right")
    page.wait_for_selector("#film:not(.asking)")
    assert page.locator("#clicks .on").count() == page.locator("#clicks .off").count() == 1
    assert page.get_attribute("#outline", "d") != original
    save(pictures / "review.png", grid, page.screenshot(), most_px=960)
    page.keyboard.press("u")
    assert page.locator("#clicks .off").count() == 0
    with page.expect_navigation():
        page.keyboard.press("a")
    page.wait_for_selector("#mask.corrected")
    page.keyboard.press("Escape")
    page.wait_for_url("**/?state=undecided#hand-0")
    assert page.locator(".hand").count() == 7
    left = {id: review.rows for id, review in read_reviews(tmp_path / "decisions.anna.csv").items()}
    assert [left[id][0] for id in ids[1:5]] == ["reject", "reject", "keep", "rotate 90"]
    assert set(left) == set(ids[:5]) and left[ids[0]][0].startswith("mask decisions.masks/")


def open_desk(live, drawn_desk, folder):
    ids = {tile.id for tile in drawn_desk.tiles}
    return live(create_review(drawn_desk, Decisions(folder / "decisions.csv", ids=ids)))


def wait_for_outline(page):
    page.wait_for_selector("#film:not(.asking)")
    return page.get_attribute("#outline", "d")


def test_corrects_a_mask_without_a_mouse(page, live, drawn_desk, tmp_path):
    page.goto(f"{open_desk(live, drawn_desk, tmp_path)}/hands/4")
    original = page.get_attribute("#outline", "d")
    press = page.keyboard.press

    def move(times, *keys):
        for key in times * keys:
            press(key)

    # The first arrow shows the crosshair in the middle.
    press("3")
    move(1, "ArrowLeft")
    assert page.text_content("#place") == "Crosshair 160, 200: inside the outline"
    move(14, "ArrowUp", "ArrowLeft")
    press("Enter")
    assert "First corner set" in page.text_content("#message")
    move(26, "ArrowDown", "ArrowRight")
    press("Enter")
    boxed = wait_for_outline(page)
    assert page.get_attribute("#box", "width") == "261" and boxed != original

    # Where the hand is thick, nothing can be cut out; a ring and a question tell.
    press("2")
    move(10, "ArrowUp", "ArrowLeft")
    press("Enter")
    wait_for_outline(page)
    page.wait_for_selector("#clicks .off.ignored .ring")
    press("a")
    page.wait_for_selector("#ignored:visible")
    page.click("text=Go on correcting")
    press("u")
    assert wait_for_outline(page) == boxed
    press("U")
    page.wait_for_selector("#clicks .off.ignored")
    press("u")
    wait_for_outline(page)

    # The view follows the crosshair.
    move(3, "+")
    shown = page.get_attribute("#film", "viewBox")
    move(30, "ArrowUp")
    assert page.get_attribute("#film", "viewBox") != shown
    press("i")
    assert page.get_attribute("#grey feFuncR", "slope") == "-1"
    with page.expect_navigation():
        press("a")
    page.wait_for_selector("#mask.corrected")
    page.fill("#text", "a thin wrist")
    press("Tab")
    press("Enter")
    page.wait_for_selector("text=Comment saved.")
    (review,) = read_reviews(tmp_path / "decisions.csv").values()
    assert review.mask is not None and review.comment == "a thin wrist"


def test_decides_without_shortcuts(page, live, drawn_desk, tmp_path):
    page.goto(open_desk(live, drawn_desk, tmp_path))
    page.click("text=Keys")
    page.uncheck("#help [name=shortcuts]")
    for key in ("Escape", "End", "Home", "ArrowRight", "x"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.id") == "hand-1"
    for key in ("Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#hand-1.rejected")
    # What has the focus is named by its score, verdict and reasons.
    page.keyboard.press("ArrowLeft")
    name = re.compile(r"1409 score 0\.\d\d, left, rejected .*The edge of the film cuts off a large part of the hand\.")
    assert page.get_by_role("article", name=name).get_attribute("id") == "hand-1"
    page.keyboard.press("Control+z")
    page.wait_for_selector("#hand-1.undecided:focus")
    page.keyboard.press("Control+y")
    page.wait_for_selector("#hand-1.rejected:focus")
    assert page.locator("[tabindex='0']").count() == 6


def test_corrects_a_mask_by_touch(browser, live, drawn_desk, tmp_path):
    with browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True) as page:
        page.goto(f"{open_desk(live, drawn_desk, tmp_path)}/hands/0")
        for mode, places in (("box", ((1, 1), (318, 398))), ("outside", ((8, 8),)), ("hand", ((160, 240),))):
            page.check(f"[name=mode][value={mode}]")
            page.evaluate("scrollTo(0, 0)")
            for place in places:
                page.touchscreen.tap(*page.evaluate(PLACE, place))
        wait_for_outline(page)
        # A finger is less precise than the film.
        assert int(page.get_attribute("#box", "height")) == pytest.approx(398, abs=3)
        assert page.locator("#clicks .on").count() == page.locator("#clicks .off").count() == 1


@pytest.mark.slow
def test_the_leaderboard_of_the_recorded_runs(page, pictures, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs mlflow")
    from boneage.tracking.registry import best, leaderboard_table

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(sys, "argv", ["track_results.py", "--tracking-uri", uri])
    runpy.run_path("tools/track_results.py", run_name="__main__")
    console = Console(record=True, width=104, file=io.StringIO())
    board = best(digest=RECORDS, tracking_uri=uri)
    assert board.runs["value"].is_monotonic_increasing and len(board.runs) > 1
    console.print(leaderboard_table(board))
    drawn = console.export_svg(title=f"boneage best --digest {RECORDS}")
    page.set_content(re.sub(r"@font-face {.*?}", "", drawn, flags=re.DOTALL))  # fonts from elsewhere
    save(pictures / "leaderboard.png", page.locator("svg").screenshot())
