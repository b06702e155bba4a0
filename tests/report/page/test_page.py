"""The page works from disk in a browser: tables sort and filter, runs open, nothing is fetched, no name is markup."""

import base64
import hashlib
import html
import json
import re

import pytest

from dctkd.report import build
from dctkd.report.collect import gather
from dctkd.report.runs import describe_runs
from tests.report.attention_files import write_all
from tests.report.conftest import MadeUp

from .browser import CHROMIUM, Watched, browser

HOSTILE = "<script>alert(1)</script>"
CLASSES = ("attic", HOSTILE, "<img src=x onerror=alert(2)>", "<b>${alert(3)}</b> {{ 7*7 }} &amp;")
pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt install chromium)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return a tree with hostile names of classes and of the experiment's title, and its page."""
    tree = MadeUp(
        tmp_path_factory.mktemp("page"),
        methods=("baseline", "kd", "at", "at+kd"),
        pairs=(("wide", "narrow"), ("wide", "tiny")),
        title=f"{HOSTILE} & more",
        classes=CLASSES,
        failures={("at", 1): "diverged"},
    ).write()
    write_all(tree, lacking={("at", 1)})
    build(tree.folder, tree.store, tree.target)
    return tree


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def opened(built, chromium):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    yield Watched(page).open(built.target / "index.html")
    page.close()


def data_of(tree):
    text = (tree.target / "index.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def table_titled(opened, title):
    return opened.page.locator("figure.table", has=opened.page.locator("figcaption", has_text=title)).first


@needs_chromium
def test_all_charts_are_drawn_without_a_message_and_without_a_request(opened, built):
    opened.draw_all()
    assert opened.page.locator(".plot svg.main-svg").count() >= 4
    assert opened.messages == []
    assert opened.requests == [(built.target / "index.html").as_uri()]


@needs_chromium
def test_click_on_a_heading_sorts_by_number_largest_first_and_gaps_last(opened):
    table = table_titled(opened, "top-1 compared, scenes, wide__narrow")
    heading = table.locator("thead th").nth(1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    shown = opened.column(table, 2)
    numbers = [float(text.split()[0]) for text in shown[:-1]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 3
    assert shown[-1] == "\u2014"
    heading.locator("button").click()
    assert [float(text.split()[0]) for text in opened.column(table, 2)[:-1]] == numbers[::-1]


@needs_chromium
def test_filter_leaves_the_rows_that_say_the_word(opened):
    table = table_titled(opened, "top-1 compared, scenes, wide__narrow")
    table.locator("input.filter").fill("KD")
    assert opened.column(table, 1) == ["kd", "at+kd"]
    table.locator("input.filter").fill("")
    assert len(opened.column(table, 1)) == 4


@needs_chromium
def test_number_opens_its_runs_and_a_run_its_config_and_command(opened, built):
    table = table_titled(opened, re.compile("^runs$"))
    table.locator("input.filter").fill("wide__narrow/kd/seed2")
    table.locator("button.open:visible").click()
    dialog = opened.page.locator("dialog#run")
    run = next(r for r in data_of(built)["runs"]["runs"] if "wide__narrow/kd/seed2" in r["path"])
    text = dialog.inner_text()
    for part in (run["digest"], run["command"], "Made-up CPU", "experiment_file: config/madeup.yaml", "top1_percent"):
        assert part in text
    assert opened.page.evaluate("location.hash") == f"#run={run['digest']}"
    opened.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    opened.page.wait_for_function("location.hash === ''")


@needs_chromium
def test_a_diverged_run_tells_why_and_its_last_finite_values(opened):
    table = table_titled(opened, re.compile("^runs$"))
    table.locator("input.filter").fill("wide__narrow/at/seed1")
    table.locator("button.open:visible").click()
    text = opened.page.locator("dialog#run").inner_text()
    for part in ("diverged", "made up", "gradient_norm 7.25, loss 2.5, step 40"):
        assert part in text


@needs_chromium
def test_mean_over_seeds_lists_its_runs(opened):
    table = table_titled(opened, "madeup: accuracy")
    table.locator("tbody tr", has=opened.page.locator("th", has_text=re.compile("^kd$"))).locator(
        "button"
    ).first.click()
    items = opened.page.locator("#run-body li")
    assert items.count() == 3
    items.first.locator("button").click()
    assert "seed0" in opened.page.locator("#run-title").inner_text()


@needs_chromium
def test_address_of_a_run_opens_it(built, chromium):
    digest = data_of(built)["runs"]["runs"][3]["digest"]
    page = chromium.new_page()
    page.goto((built.target / "index.html").as_uri() + f"#run={digest}")
    assert digest in page.locator("dialog#run").inner_text()
    page.close()


@needs_chromium
def test_hostile_class_names_are_shown_as_text_in_table_and_chart(opened):
    opened.draw_all()
    names = opened.column(opened.page.locator("#class-accuracy"), 1)
    assert names == list(CLASSES)
    assert set(opened.page.locator("#confusion .ytick text").all_text_contents()) == set(CLASSES)
    assert opened.page.locator("header .lead").inner_text() == f"{HOSTILE} & more"
    assert opened.page.locator("main img[src=x], main script").count() == 0
    assert opened.messages == []  # an alert that ran, or was stopped by the policy, would leave one


STOPPED = """async (act) => {
    const stopped = new Promise((resolve) => {
        window.tooLate = resolve;
        document.addEventListener("securitypolicyviolation",
        (event) => resolve(event.effectiveDirective), { once: true });
    });
    setTimeout(() => window.tooLate("nothing was stopped"), 3000);
    new Function(act)();
    return stopped;
}"""


@needs_chromium
@pytest.mark.parametrize(
    ("act", "directive"),
    [
        (
            "const s = document.createElement('script'); s.textContent = 'window.stolen = 1'; document.head.append(s)",
            "script-src-elem",
        ),
        ("document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=alert(1)>')", "script-src-attr"),
        ("new Image().src = 'https://example.org/leak.png'", "img-src"),
        ("fetch('https://example.org/leak').catch(() => {})", "connect-src"),
    ],
)
def test_policy_stops_what_is_not_the_pages_own(opened, act, directive):
    assert opened.page.evaluate(STOPPED.replace("new Function(act)()", act), "") == directive
    assert opened.page.evaluate("window.stolen") is None


@needs_chromium
def test_phone_shows_everything_without_scrolling_sideways(built, chromium):
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    watched = Watched(page).open(built.target / "index.html")
    watched.draw_all()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


@needs_chromium
def test_choice_of_class_group_and_method_changes_table_and_chart(opened, built):
    classes = data_of(built)["classes"]
    opened.page.locator("#class-group").select_option(classes[1]["group"])
    opened.page.locator("#class-method").select_option("at+kd")
    method = next(one for one in classes[1]["methods"] if one["method"] == "at+kd")
    shown = [float(text) for text in opened.column(opened.page.locator("#class-accuracy"), 3)]
    assert shown == method["accuracy_percent"]


def test_page_holds_every_run_and_is_less_than_five_megabytes(built):
    collected = gather(built.folder, built.store)
    assert data_of(built)["runs"] == json.loads(json.dumps(describe_runs(collected)))
    assert (built.target / "index.html").stat().st_size < 5_000_000


def test_policy_names_the_hash_of_the_pages_script(built):
    text = html.unescape((built.target / "index.html").read_text().partition("<style>")[0])
    script = re.findall(r"<script>(.*?)</script>", (built.target / "index.html").read_text(), re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "unsafe-eval" not in text
    assert "script-src 'unsafe-inline'" not in text


def test_names_from_data_never_stand_in_the_page_as_markup(built):
    text = (built.target / "index.html").read_text()
    assert HOSTILE not in text
    assert "<img src=x" not in text
