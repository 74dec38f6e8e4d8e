"""Looks at report pages in a real browser, at two widths and in both colour schemes.

    browser.py FOLDER [--shots FOLDER]

For every page of FOLDER: nothing on the console, nothing asked of a network, every picture drawn and inside the page, no
sideways scrolling, no finding of axe-core (contrast, names, tables, headings), every link reached by Tab and leading
somewhere, and a print of it. Prints how long each page took to open; nothing is held against a clock.
"""

import argparse
import pathlib
import sys

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = {"wide": (1280, 900), "phone": (390, 844)}
SCHEMES = ["light", "dark"]

# Text in pictures is drawn on rectangles, which axe-core does not look at: each text against the fill below its middle.
PICTURE_CONTRAST = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).slice(0, 3).map(Number);
  const luminance = text => {
    const [r, g, b] = channels(text).map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/rgba\\(.*, 0\\)/.test(colour) && colour !== 'transparent') return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const low = [];
  for (const text of document.querySelectorAll('svg text')) {
    if (!text.textContent) continue;
    const before = text.previousElementSibling;
    const on = before && before.tagName === 'rect' && getComputedStyle(before).fill !== 'none'
      ? getComputedStyle(before).fill : page(text.closest('svg'));
    const [a, b] = [luminance(getComputedStyle(text).fill), luminance(on)].sort((a, b) => b - a);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${text.textContent}: ${ratio.toFixed(2)}`);
  }
  return [...new Set(low)].slice(0, 10);
}"""

PICTURES = """() => [...document.querySelectorAll('svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const drawn = [...svg.querySelectorAll('rect, path, text')].filter(shape => {
    const size = shape.getBoundingClientRect();
    return size.width > 0 || size.height > 0;
  });
  return {name: svg.getAttribute('aria-label'), width: box.width, height: box.height, drawn: drawn.length};
})"""


class Faults(list):
    def check(self, holds, where, what):
        if not holds:
            self.append(f"{where}: {what}")


def look(context, path, where, faults):
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    faults.check(not said, where, f"the console says {said[:3]}")
    faults.check(asked == [path.as_uri()], where, f"it asks for {asked[1:4]}")
    opened = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    pictures = page.evaluate(PICTURES)
    faults.check(pictures, where, "it has no picture")
    for picture in pictures:
        drawn = picture["width"] > 20 and picture["height"] > 5 and picture["drawn"] > 0
        faults.check(drawn and picture["name"], where, f"a picture is empty or has no name: {picture}")
    across = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    faults.check(across[0] <= across[1], where, f"it scrolls sideways: {across[0]} of {across[1]} pixels")
    low = page.evaluate(PICTURE_CONTRAST)
    faults.check(not low, where, f"text in pictures of too little contrast: {low}")
    return page, opened


def accessible(page, where, faults):
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    for violation in found:
        nodes = [node["html"][:120] for node in violation["nodes"][:3]]
        faults.append(f"{where}: {violation['id']}: {violation['help']}: {nodes}")


def walk(page, where, faults):
    """Goes through the page by Tab until it is left: the skip link is first, and every link is among what is met."""
    links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    for link in links:
        faults.check(link.startswith("#") and page.query_selector(link), where, f"the link {link} leads nowhere")
    met = []
    for _ in range(len(links) + 3):
        page.keyboard.press("Tab")
        met.append(page.evaluate("document.activeElement.getAttribute('href')"))
    faults.check(met[0] == "#report", where, f"the first Tab meets {met[0]}")
    faults.check(set(links) <= set(met), where, f"Tab does not reach {set(links) - set(met)}")
    outline = page.evaluate("""() => {
      const link = document.querySelector('nav a'); link.focus();
      return getComputedStyle(link).outlineStyle; }""")
    faults.check(outline != "none", where, "a link in focus looks like any other")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--shots", type=pathlib.Path, help="write pictures of every page into this folder")
    arguments.add_argument("--browser", default="/usr/bin/chromium")
    options = arguments.parse_args()
    pages = sorted(options.folder.resolve().glob("*.html"))
    if not pages:
        sys.exit(f"{options.folder} has no page")
    faults = Faults()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=FLAGS)
        for path in pages:
            times = []
            for name, (width, height) in WIDTHS.items():
                for scheme in SCHEMES:
                    where = f"{path.name}, {name}, {scheme}"
                    viewport = {"width": width, "height": height}
                    context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
                    page, opened = look(context, path, where, faults)
                    times.append(opened)
                    accessible(page, where, faults)
                    walk(page, where, faults)
                    if options.shots:
                        options.shots.mkdir(parents=True, exist_ok=True)
                        page.evaluate("scrollTo(0, 0); document.activeElement.blur()")
                        page.screenshot(path=options.shots / f"{path.stem}-{name}-{scheme}.png", full_page=True)
                    if name == "wide" and scheme == "dark":
                        page.emulate_media(media="print")
                        low = page.evaluate(PICTURE_CONTRAST)
                        faults.check(not low, where, f"text in printed pictures of too little contrast: {low}")
                        printed = page.pdf(format="A4", margin={side: "15mm" for side in ("top", "bottom", "left", "right")})
                        faults.check(printed.startswith(b"%PDF"), where, "it cannot be printed")
                        if options.shots:
                            (options.shots / f"{path.stem}.pdf").write_bytes(printed)
                    context.close()
            spent = ", ".join(f"{time:.0f}" for time in times)
            print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, opened in {spent} ms")
        browser.close()
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(pages)} pages hold at both widths and in both schemes")


if __name__ == "__main__":
    main()
