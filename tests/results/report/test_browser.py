"""The page in a real Chromium: what is clicked, sorted, filtered, drawn, printed and asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_t2i.records import TrialState
from nas_t2i.results.figures.ranked import ranked
from nas_t2i.results.report.page import report
from nas_t2i.store import Study
from tests.browser import CHROMIUM, MISSING, Browser, chromium
from tests.results.record_factory import signals_of, study, trial
from tests.results.report.large_study import large_study

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason=MISSING)]

HOSTILE = (
    "</script><script>owned=1</script>",
    "<img src=x onerror=owned=1>",
    "\"'><b onmouseover=owned=1>",
    '<a href="http://evil.example/">link</a>',
    "{{ 7*7 }} %{x} $x^2$",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        opened.size(1280, 900)
        opened.prefer("light")
        yield opened


def _study(names: tuple[str, ...]) -> Study:
    trials = []
    for i, name in enumerate(names):
        made = trial(
            name,
            {100: 0.4 + i / 50, 200: 0.5 + i / 25},
            number=i,
            arch_id=f"unet-{i:012x}",
            gmacs=100.0 + (i * 37) % 50,
            params=100_000_000 * (i + 1),
            arch={"family": "unet", "channels": 64 * (1 + i % 4), "note": name},
        )
        curve = [p.model_copy(update={"signals": signals_of(1 / p.step)}) for p in made.curve]
        trials.append(made.model_copy(update={"curve": curve}))
    trials.append(
        trial("Z", {}, number=99, state=TrialState.FAILED, reason=f"out of memory {names[0]}")
    )
    return Study(Path("nowhere"), study("demo", note=names[0]), trials, [], False)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "report.html"
    file.write_text(report(ranked([_study(tuple(f"arch-{i}" for i in range(12)))])))
    return file


def names(browser: Browser) -> list[str]:
    found = browser.evaluate(
        "[...document.querySelectorAll('#leaderboard tbody tr:not([hidden]) th')]"
        ".map(cell => cell.textContent)"
    )
    return list(found)


def show_all(browser: Browser) -> None:
    """Scroll through the page until every figure that is not hidden is drawn."""
    browser.evaluate(
        "(async () => { for (const plot of document.querySelectorAll('figure:not([hidden]) .plot'))"
        "{ plot.scrollIntoView(); await new Promise(done => setTimeout(done, 50)); } })()"
    )
    browser.wait(
        "[...document.querySelectorAll('figure:not([hidden]) .plot')]"
        ".every(plot => plot.querySelector('svg'))"
    )


def quiet(browser: Browser, page: Path) -> None:
    """Nothing was logged, and nothing asked for but the page itself and what is inside it."""
    assert browser.console == []
    outside = [r for r in browser.requests if not r.startswith(("data:", "blob:"))]
    assert outside == [page.resolve().as_uri()]


def test_it_sorts_by_mouse_and_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page)
    first = names(browser)
    assert first[0] == "arch-11" and first[-1] == "Z"
    head = "#leaderboard th[title^='1e9 multiply-adds'] button"
    browser.click(head)
    by_size = names(browser)
    assert by_size != first and sorted(by_size) == sorted(first)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('#leaderboard tbody tr')]"
        ".map(r => Number(r.cells[9].dataset.v))"
    )
    assert sizes == sorted(sizes)
    browser.evaluate(f'document.querySelector("{head}").focus()')
    browser.key("Enter", 13)
    assert names(browser) == [*reversed_stable(browser)]
    sort = browser.evaluate(f'document.querySelector("{head}").closest("th").ariaSort')
    assert sort == "descending"
    quiet(browser, page)


def reversed_stable(browser: Browser) -> list[str]:
    """Names by GMACs, largest first, of equal ones the better rank first."""
    rows = browser.evaluate(
        "[...document.querySelectorAll('#leaderboard tbody tr')].map(r => "
        "[-Number(r.cells[9].dataset.v), Number(r.dataset.rank), r.cells[1].textContent])"
    )
    return [name for _, _, name in sorted(rows)]


def test_it_filters_and_says_how_many_are_left(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.type("#filter", "ARCH-1 complete")
    assert sorted(names(browser)) == ["arch-1", "arch-10", "arch-11"]
    assert browser.evaluate("document.getElementById('count').textContent") == "3 of 13 rows"
    quiet(browser, page)


def test_a_ticked_row_gets_a_line_and_a_figure_its_numbers(browser: Browser, page: Path) -> None:
    browser.open(page)
    show_all(browser)
    plot = "document.querySelector('[data-chart=curve-tifa]')"
    names_before = browser.evaluate(f"{plot}.data.map(trace => trace.name)")
    assert "12. arch-0" not in names_before and "5 others" in names_before
    browser.click("#leaderboard tr[data-rank='12'] input")
    assert "12. arch-0" in browser.evaluate(f"{plot}.data.map(trace => trace.name)")
    browser.click("#figure-curve-tifa .numbers summary")
    browser.wait("document.querySelector('#figure-curve-tifa .numbers td')")
    cells = browser.evaluate(
        "[...document.querySelectorAll('#figure-curve-tifa .numbers tbody tr')].length"
    )
    assert cells == 12 * 2 + 2  # two rungs each, and both ends of the line of chance
    quiet(browser, page)


def test_curves_by_signal_and_by_compute(browser: Browser, page: Path) -> None:
    browser.open(page)
    show_all(browser)
    browser.click("#figure-curve-tifa .compute")
    assert browser.evaluate(
        "document.querySelector('[data-chart=curve-tifa]').layout.xaxis.type"
    ) == "log"  # fmt: skip
    browser.click("button[data-show=curve-heldout-loss]")
    browser.wait("document.querySelector('[data-chart=curve-heldout-loss] svg')")
    assert browser.evaluate("document.getElementById('figure-curve-tifa').hidden") is True
    quiet(browser, page)


def test_hovering_names_the_architecture(browser: Browser, page: Path) -> None:
    browser.open(page)
    show_all(browser)
    place = browser.evaluate(
        "(() => { const plot = document.querySelector('[data-chart=curve-tifa]');"
        "plot.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const all = plot.querySelectorAll('.scatterlayer .points path');"
        "const box = all[all.length - 1].getBoundingClientRect();"
        "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
    )
    browser.hover(place["x"] - 3, place["y"] - 3)
    browser.hover(place["x"], place["y"])
    browser.wait("document.querySelector('.hoverlayer .hovertext')")
    text = browser.evaluate("document.querySelector('.hoverlayer .hovertext').textContent")
    assert "arch-" in text and "TIFA" in text
    quiet(browser, page)


def test_both_themes_and_the_width_of_a_phone(browser: Browser, page: Path, tmp_path: Path) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    browser.open(page)
    assert browser.evaluate(colour) == "rgb(255, 255, 255)"
    browser.click("#theme")
    dark = browser.evaluate(colour)
    assert dark != "rgb(255, 255, 255)"
    browser.prefer("dark")
    browser.open(page)
    assert browser.evaluate(colour) == dark
    browser.click("#theme")
    assert browser.evaluate(colour) == "rgb(255, 255, 255)"
    browser.prefer("light")
    browser.size(390, 844)
    try:
        browser.open(page)
        show_all(browser)
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        browser.size(1280, 900)
    quiet(browser, page)


def test_a_screen_reader_finds_a_name_for_everything(browser: Browser, page: Path) -> None:
    browser.open(page)
    show_all(browser)
    met = browser.accessible()
    named = ("button", "checkbox", "link", "image", "img", "region", "searchbox")
    roles = {role for role, _ in met}
    assert {"button", "checkbox", "link", "searchbox", "region", "columnheader"} <= roles
    for role, name in met:
        assert name.strip() or role not in named, role
    assert ("checkbox", "arch-3 in figures") in met
    headings = [name for role, name in met if role == "heading"]
    assert headings[:3] == ["demo", "Answer", "What was searched, what was held fixed"]


def test_the_keyboard_goes_to_the_answer_first_and_ticks_rows(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.key("Tab", 9)
    assert browser.evaluate("document.activeElement.textContent") == "Skip to the answer"
    browser.key("Enter", 13)
    browser.wait("location.hash === '#answer'")
    box = "#leaderboard tr[data-rank='12'] input"
    browser.evaluate(f'document.querySelector("{box}").focus()')
    browser.key(" ", 32)
    assert browser.evaluate(f'document.querySelector("{box}").checked') is True
    quiet(browser, page)


def test_it_prints_with_all_figures(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.pdf().startswith(b"%PDF")
    drawn = browser.evaluate("[...document.querySelectorAll('.plot')].map(p => Boolean(p.data))")
    assert drawn and all(drawn)
    quiet(browser, page)


def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "hostile.html"
    page.write_text(
        report(ranked([_study(tuple(f"{text}{i}" for i, text in enumerate(HOSTILE * 2)))]))
    )
    browser.open(page)
    show_all(browser)
    browser.click("#figure-curve-tifa .numbers summary")
    browser.wait("document.querySelector('#figure-curve-tifa .numbers td')")
    assert browser.evaluate("typeof owned") == "undefined"
    assert (
        browser.evaluate("document.querySelectorAll('main a[href^=http], img[src=x], b').length")
        == 0
    )
    shown = " ".join(names(browser))
    for text in HOSTILE:
        assert text in shown
    quiet(browser, page)


def test_the_policy_stops_what_would_be_smuggled_in(browser: Browser, page: Path) -> None:
    """Were a name ever written unescaped, its script would not run and its image not load."""
    text = page.read_text()
    page.write_text(
        text.replace("<main>", "<main><script>owned=1</script><img src='http://127.0.0.1:9/x'>", 1)
    )
    browser.open(page)
    assert browser.evaluate("typeof owned") == "undefined"
    refused = [entry for entry in browser.console if "Content Security Policy" in entry]
    assert len(refused) == 2


def test_a_thousand_architectures_open_in_two_seconds(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "large.html"
    page.write_text(report(ranked([large_study()])))
    assert page.stat().st_size < 10e6
    page.with_name("nothing.html").write_text("<p>nothing")
    browser.open(page.with_name("nothing.html"))
    before = browser.worked()
    browser.open(page)
    assert browser.worked() - before < 2
    assert len(names(browser)) == 1000
    show_all(browser)
    quiet(browser, page)
