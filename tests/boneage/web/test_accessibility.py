"""Every state of every page by axe-core: narrow and wide, light and dark, and with text of twice the size."""

import itertools

import numpy as np
import pytest

from boneage.inference.loading import load
from boneage.preprocessing.synthetic import draw_radiograph
from boneage.review.app import create_review
from boneage.review.decisions import Decisions
from boneage.serve.app import create_app
from boneage.studies.child_height import load_height_tables

TOKEN = "a-secret-of-some-length"
# Where a pixel of the radiograph is on the page.
PLACE = "([x, y]) => { const at = new DOMPoint(x, y).matrixTransform(film.getScreenCTM()); return [at.x, at.y]; }"
# The rules depend on the scheme and on what a width shows, and not on both together.
JUDGED = {(100, 375, "dark"), (100, 1440, "light")}
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}
# What is beyond the page or hidden by what contains it, unless that can be scrolled.
FIND_LOST_TEXT = """() => {
  const lost = [];
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth) lost.push(`the page is ${page.scrollWidth} px wide`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const holder = text.parentElement;
    if (!text.data.trim() || !holder.checkVisibility() || holder.closest(".unseen, option, noscript")) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    for (let box = holder; box; box = box.parentElement) {
      const { overflowX, overflowY } = getComputedStyle(box);
      if ([overflowX, overflowY].some((overflow) => ["auto", "scroll"].includes(overflow))) break;
      if (overflowX === "visible" && box !== document.body) continue;
      const edge = box.getBoundingClientRect();
      const isOut = (rect) => rect.left < edge.left - 1 || rect.right > edge.right + 1 ||
        (box !== document.body && (rect.top < edge.top - 1 || rect.bottom > edge.bottom + 1));
      if ([...range.getClientRects()].some((rect) => rect.width && isOut(rect))) lost.push(text.data.trim());
    }
  }
  return lost;
}"""


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()


@pytest.fixture
def page(browser):
    """A page on which no script fails."""
    opened = browser.new_page()
    opened.set_default_timeout(60_000)
    faults = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    opened.close()
    assert faults == []


@pytest.fixture
def judge(page, axe, request):
    """A function that asserts that the page as it is has no fault, however wide, coloured and large it is shown."""
    pictures = request.config.getoption("--pictures")

    def find_faults(state):
        for width_px, percent, scheme in itertools.product((375, 1440), (100, 200), ("light", "dark")):
            page.set_viewport_size({"width": width_px, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("(scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches", arg=scheme)
            page.evaluate("(percent) => { document.documentElement.style.fontSize = `${percent}%`; }", percent)
            where = f"{state}, {width_px} px, {percent}%, {scheme}"
            if pictures:
                page.screenshot(path=pictures / f"{where}.png", full_page=True)
            if scheme == "light":
                yield from (f"{where}: lost: {text}" for text in page.evaluate(FIND_LOST_TEXT))
            if (percent, width_px, scheme) in JUDGED:
                for violation in axe.run(page, options=AXE_OPTIONS).response["violations"]:
                    yield from (f"{where}: {violation['help']}: {node['html']}" for node in violation["nodes"])

    def judge_state(state):
        page.wait_for_load_state("load")  # without its style, a page has other faults
        faults = list(find_faults(state))
        assert not faults, "\n".join(faults)

    return judge_state


@pytest.fixture(scope="module")
def address(live, tmp_path_factory):
    """The page with the packaged model, and tables of heights that are nobody's."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "percents.csv").write_text(
        "sex,maturation,bone_age_months,percent_of_adult_height\nfemale,average,96,78\nfemale,average,168,98\n"
    )
    (folder / "cdc.csv").write_text("Sex,Agemos,L,M,S\n2,24,1,85,0.04\n2,120,1,138,0.04\n")
    return live(create_app(load(), heights=load_height_tables(folder / "percents.csv", cdc=folder / "cdc.csv")))


@pytest.fixture(scope="module")
def files(encode_png, write_hand):
    """Of one hand, of the two of a film, of an infant, of a study, of no hand, and of half a file; by name."""
    hand = draw_radiograph(132, sex="female", seed=7).pixels
    hands = draw_radiograph(120, sex="female", seed=5, size_px=(400, 320), angle_degrees=0.0).pixels
    wall = np.tile(np.linspace(0, 255, 300).astype(np.uint8), (240, 1))
    dicom = write_hand().read_bytes()
    return {
        "drawing.png": encode_png(hand),
        "both.png": encode_png(np.hstack([hands, hands[:, ::-1]])),
        "infant.png": encode_png(draw_radiograph(18, sex="female", seed=3).pixels),
        "a_radiograph_of_a_study_with_a_long_name.dcm": dicom,
        "wall.png": encode_png(wall),
        "broken.dcm": dicom[: len(dicom) // 2],
    }


@pytest.fixture(scope="module")
def sessions(browser, address, files):
    """The cookies of a session with one reading, and of one with more after it."""

    def send(page, *names):
        page.goto(address)
        buffers = [{"name": name, "mimeType": "application/octet-stream", "buffer": files[name]} for name in names]
        page.set_input_files("#files", buffers)
        page.check("#upload [name=sex][value=female]")
        page.fill("#upload [name=age_years]", "11")
        with page.expect_navigation():
            page.click("#upload button")
        page.wait_for_selector(".reading")
        return page.context.cookies()

    def tell(page):
        page.click("text=More of this child")
        told = {"age_0_years": 8, "bone_0_years": 8, "age_1_years": 9, "bone_1_years": 11, "error_months": 4}
        for name, value in (told | {"height_cm": 140, "mother_cm": 165, "father_cm": 178}).items():
            page.fill(f".tell [name={name}]", str(value))
        with page.expect_navigation():
            page.click(".tell button")
        assert "accelerated" in page.text_content(".changes")
        return page.context.cookies()

    with browser.new_page() as page, browser.new_page() as other, browser.new_page() as third:
        send(other, "drawing.png")
        send(third, "drawing.png")
        return {"one": send(page, "drawing.png"), "several": send(other, *files), "told": tell(third)}


def open_details(page):
    for summary in page.locator("summary:visible").all():
        summary.click()


def choose_several_files(page):
    names = ("IM0001", "a_radiograph_of_a_study_with_a_long_name.dcm")
    page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": b"1"} for name in names])
    assert page.locator("#own-rows li:visible").count() == 2


def read_again_too_late(page):
    page.context.clear_cookies()
    page.click("text=Read again as")
    page.click(".reading form button")
    page.wait_for_selector("text=no longer on the server")


def choose_too_many_files(page):
    empty = {"name": "1.png", "mimeType": "image/png", "buffer": b""}
    page.set_input_files("#files", [empty] * 51)
    assert page.text_content("#chosen") == "At most 50 files at once."


def wait_for_answers(page):
    page.route("**/files", lambda route: None)
    page.set_input_files("#files", [{"name": f"{n}.png", "mimeType": "image/png", "buffer": b"1"} for n in range(3)])
    page.click("#upload button")
    page.wait_for_selector("#rows li")


def follow(text):
    return lambda page: page.click(f"text={text} >> nth=0")


def open_viewer(page):
    page.click("text=Viewer >> nth=0")
    page.wait_for_selector("#controls:visible")
    page.click("text=Zoom in")
    page.keyboard.press("i")


def stay(page):
    pass


@pytest.mark.parametrize(
    ("state", "session", "path", "act"),
    [
        ("empty", None, "/", stay),
        ("too many files", None, "/", choose_too_many_files),
        ("several files", None, "/", choose_several_files),
        ("reading", None, "/", wait_for_answers),
        ("one answer", "one", "/", stay),
        ("several answers, an earlier one", "several", "/", open_details),
        ("film gone", "one", "/", read_again_too_late),
        ("report", "one", "/", follow("Printable report")),
        ("course and heights", "told", "/", stay),
        ("course and heights, form", "told", "/", open_details),
        ("course and heights, report", "told", "/", follow("Printable report")),
        ("viewer", "one", "/", open_viewer),
        ("REST interface", None, "/docs", open_details),
        ("error", None, "/readings/none", stay),
    ],
)
def test_the_page_in_every_state(page, judge, address, sessions, state, session, path, act):
    page.context.add_cookies(sessions.get(session, []))
    page.goto(address + path)
    act(page)
    judge(f"serve, {state}")


def test_the_login(page, judge, live):
    page.goto(live(create_app(load(), token=TOKEN)))
    judge("login")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector(".warning")
    judge("login, wrong token")


@pytest.fixture
def desk_address(live, drawn_desk, tmp_path):
    """The desk of Anna, who disagrees with Ben about one radiograph."""
    ids = [tile.id for tile in drawn_desk.tiles]
    for name, rows in (("ben", ["reject,", "reject,"]), ("anna", ["reject,", "keep,", "rotate,90"])):
        lines = [f"{id},{row}" for id, row in zip(ids[1:], rows, strict=False)]
        lines.append(f"{ids[1]},comment,the wrist is cut")
        (tmp_path / f"decisions.{name}.csv").write_text("\n".join(["id,decision,value", *lines]) + "\n")
    return live(create_review(drawn_desk, Decisions(tmp_path / "decisions.csv", reviewer="anna", ids=set(ids))))


def press(*keys):
    def press_all(page):
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_load_state("networkidle")

    return press_all


def correct_by_clicks(page):
    """By one beside the hand, and one deep within it that is not the hand, which cannot be followed."""
    for place, button in (((10, 200), "left"), ((150, 190), "right")):
        page.mouse.click(*page.evaluate(PLACE, place), button=button)
    page.wait_for_selector("#film:not(.asking)")


def accept_what_is_not_followed(page):
    correct_by_clicks(page)
    page.keyboard.press("a")
    page.wait_for_selector("#ignored:visible")


def open_legend(page):
    page.click("text=Legend")


@pytest.mark.parametrize(
    ("state", "path", "act"),
    [
        ("list", "/", open_legend),
        ("filter", "/?state=undecided&gate=rejected", stay),
        ("disputed", "/?state=disputed", stay),
        ("empty", "/?gate=none", stay),
        ("keys", "/", press("?")),
        ("decided in the list", "/#hand-4", press("x", "k")),
        ("one radiograph", "/hands/0", stay),
        ("correction", "/hands/4", correct_by_clicks),
        ("correction not followed", "/hands/4", accept_what_is_not_followed),
        ("decided", "/hands/1", stay),
        ("error", "/hands/99", stay),
    ],
)
def test_the_desk_in_every_state(page, judge, desk_address, state, path, act):
    page.goto(desk_address + path)
    act(page)
    judge(f"desk, {state}")
