"""The report in a real browser: pointing, filters, keys, names, widths, and no request."""

import time
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.browser.chromium import resize, set_scheme, shoot, start
from tests.support.reports import HOSTILE, Page, dumped_scenes, page_of_many

SHOTS = Path("build/browser")
WIDTHS = (1400, 420)
LABEL, SCORE, KIND = 4, 5, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A report of a dump, and one with 5,000 images in its list."""
    folder = tmp_path_factory.mktemp("report")
    path, data = dumped_scenes(folder)
    page_of_many(path, data, folder / "report.html", 12)
    page_of_many(path, data, folder / "many.html", 5000)
    return folder


@pytest.fixture(scope="module")
def browser():
    driver = start()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, files):
    """The report, freshly opened. It must not have complained at the end of the test."""
    resize(browser, WIDTHS[0])
    browser.get((files / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def data(files):
    return Page(files / "report.html").data["subjects"][0]


def one(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def every(page, selector):
    return page.find_elements(By.CSS_SELECTOR, selector)


def panel(number):
    """The selector of the panel of the truth (1), of NMS (2) or of the stage (3)."""
    return f".panel:nth-child({number})"


def boxes(page, number):
    return every(page, f"{panel(number)} [data-box]")


def stand(page):
    page.execute_script("document.querySelector('.stand').scrollIntoView()")


def point_at(page, number=3):
    """Rest the pointer on the smallest box of a panel, which is drawn last."""
    stand(page)
    ActionChains(page).move_to_element(
        every(page, f"{panel(number)} [data-box] .hit")[-1]
    ).perform()


def name(page):
    return one(page, ".bar .name").text


def press(page, *keys):
    ActionChains(page).send_keys(*keys).perform()


def shown(case, row, least, keep=lambda box: True):
    return sum(box[SCORE] >= least and keep(box) for box in case["rows"][row])


def test_nothing_is_asked_of_a_network(page):
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_list_leads_to_the_images(page, data):
    names = [case["name"] for case in data["cases"]]
    listed = [button.text.split("\n")[0] for button in every(page, "button.case")]
    losses = data["losses"]
    assert listed[:3] == names[:3]
    assert listed[-3:] == names[losses : losses + 3]
    every(page, "button.case")[1].click()
    assert name(page) == names[1]


def test_pointing_at_a_box_shows_its_cluster(page, data):
    assert every(page, ".panels .member") == []
    Select(one(page, ".by-kind select")).select_by_value("right")
    point_at(page)
    active = every(page, f"{panel(3)} .active[data-box]")
    assert len(active) == 1
    box = data["cases"][0]["rows"]["post_nms"][int(active[0].get_attribute("data-box"))]
    members = data["cases"][0]["clusters"][box[9]]["members"]
    assert len(every(page, f"{panel(3)} .member")) == len(members)
    assert len(every(page, f"{panel(2)} .active[data-box]")) == 1
    text = one(page, ".detail").text
    assert f"score {box[SCORE]:.3f}" in text
    assert "Moved by" in text
    assert "IoU with the object" in text
    shoot(page, SHOTS / "pointed.png")
    ActionChains(page).move_to_element(one(page, ".bar .name")).perform()
    assert every(page, ".panels .member") == []


def test_a_click_keeps_a_box_and_escape_lets_it_go(page):
    point_at(page)
    ActionChains(page).click().move_to_element(one(page, ".bar .name")).perform()
    assert len(every(page, f"{panel(3)} .active[data-box]")) == 1
    press(page, Keys.ESCAPE)
    assert every(page, ".active") == []


def test_keys_change_the_image(page, data):
    names = [case["name"] for case in data["cases"]]
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert name(page) == names[2]
    press(page, Keys.ARROW_LEFT)
    assert name(page) == names[1]
    for _ in names:
        press(page, Keys.ARROW_RIGHT)
    assert name(page) == names[-1]
    assert not one(page, "button.next").is_enabled()


def test_keys_walk_through_the_boxes_by_score(page, data):
    one(page, f"{panel(3)} svg").send_keys(Keys.ARROW_DOWN)
    scores = sorted((box[SCORE] for box in data["cases"][0]["rows"]["post_nms"]), reverse=True)
    assert f"score {scores[0]:.3f}" in one(page, ".detail").text
    press(page, Keys.ARROW_DOWN)
    assert f"score {scores[1]:.3f}" in one(page, ".detail").text
    press(page, Keys.ARROW_UP, Keys.ENTER)
    ActionChains(page).move_to_element(one(page, ".bar .name")).perform()
    assert f"score {scores[0]:.3f}" in one(page, ".detail").text
    press(page, Keys.ESCAPE)
    assert "Point at a box" in one(page, ".detail").text


def test_arrows_in_a_filter_do_not_change_the_image(page, data):
    one(page, ".by-score input").send_keys(Keys.ARROW_RIGHT)
    assert name(page) == data["cases"][0]["name"]


def test_boxes_are_filtered_by_class_kind_and_score(page, data):
    case = data["cases"][0]
    least = {row: about["threshold"] for row, about in data["rows"].items()}
    for number, row in ((2, "nms"), (3, "post_nms")):
        assert len(boxes(page, number)) == shown(case, row, least[row])
    label = case["rows"]["nms"][0][LABEL]
    classes = Select(one(page, ".by-class select"))
    classes.select_by_value(str(label))
    wanted = shown(case, "nms", least["nms"], lambda box: box[LABEL] == label)
    assert len(boxes(page, 2)) == wanted > 0
    classes.select_by_value("all")
    kinds = Select(one(page, ".by-kind select"))
    for kind in ("right", "localisation", "duplicate"):
        kinds.select_by_value(kind)
        wanted = shown(case, "post_nms", least["post_nms"], lambda box, k=kind: box[KIND] == k)
        assert len(boxes(page, 3)) == wanted
    kinds.select_by_value("missed")
    assert boxes(page, 3) == []
    kinds.select_by_value("all")
    slider = ".by-score input"
    page.execute_script(
        f"const s = document.querySelector('{slider}'); s.value = 0;"
        "s.dispatchEvent(new Event('input'))"
    )
    assert len(boxes(page, 3)) == len(case["rows"]["post_nms"])
    assert one(page, ".by-score output").text == "0.00"


def test_suppressed_boxes_are_drawn_on_request(page, data):
    one(page, ".by-members input").click()
    assert len(every(page, f"{panel(2)} .member")) > len(boxes(page, 2))
    one(page, ".by-members input").click()
    assert every(page, ".panels .member") == []


def test_a_panel_may_show_another_row(page, data):
    Select(every(page, ".panel select")[1]).select_by_value("nms")
    assert len(boxes(page, 3)) == len(boxes(page, 2))


def test_names_are_text(page):
    assert page.execute_script("return window.broken") is None
    assert HOSTILE in one(page, "#classes").text or HOSTILE in page.page_source.replace("&lt;", "<")
    options = [option.get_attribute("textContent") for option in every(page, ".by-class option")]
    assert HOSTILE in options
    assert every(page, "main b b") == []


def test_the_list_of_5000_images_is_searched_sorted_and_turned(browser, files):
    begin = time.perf_counter()
    browser.get((files / "many.html").as_uri())
    every(browser, ".list tbody tr")
    print(f"\n5,000 images: opened in {time.perf_counter() - begin:.2f} s")
    assert len(every(browser, ".list tbody tr")) == 50
    assert one(browser, ".list .where").text == "1 to 50 of 5000"
    every(browser, ".list .tools button")[1].click()
    assert one(browser, ".list .where").text == "51 to 100 of 5000"
    one(browser, ".list input").send_keys("more_4321")
    assert [row.text for row in every(browser, ".list tbody tr")] == [
        "more_4321.png 7 50.0 51.0 +1.0"
    ]
    one(browser, ".list input").clear()
    one(browser, ".list input").send_keys("scene", Keys.BACKSPACE * 5, "val")
    every(browser, ".list th button")[2].click()
    before = [float(row.text.split()[-3]) for row in every(browser, ".list tbody tr")]
    assert before == sorted(before)
    button = every(browser, ".list tbody button")[0]
    wanted = button.text
    button.click()
    assert name(browser) == wanted
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_its_width(page, width, scheme):
    set_scheme(page, scheme)
    resize(page, width)
    page.refresh()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.execute_script(f"return {wide}") == 0
    charts = every(page, ".chart .wide svg" if width > 800 else ".chart .narrow svg")
    assert charts
    assert all(chart.is_displayed() for chart in charts)
    shoot(page, SHOTS / f"report_{width}_{scheme}.png")
    set_scheme(page, "light")
