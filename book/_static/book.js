// What the style sheet cannot know: what is wider than the page, and what a search finds.
"use strict";

{
  // The nearest box that scrolls sideways around a table that is wider than it.
  const scroller = (table) => {
    for (let up = table.parentElement; up && !up.matches("article"); up = up.parentElement)
      if (/auto|scroll/.test(getComputedStyle(up).overflowX) && up.scrollWidth > up.clientWidth + 2)
        return up;
    return null;
  };

  const mark = (box) => {
    const end = box.scrollLeft + box.clientWidth >= box.scrollWidth - 2;
    box.classList.toggle("at-its-end", end);
  };

  // Keys reach code and formulae that are wider than the page: the theme sees to those that are not
  // folded when the page is loaded.
  const stops = () => {
    for (const node of document.querySelectorAll("article :is(pre, div.math, .package-map)")) {
      const scrolls =
        /auto|scroll/.test(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth;
      if (scrolls && node.tabIndex < 0) {
        node.tabIndex = 0;
        node.dataset.stop = "";
      } else if (!scrolls && "stop" in node.dataset) {
        node.removeAttribute("tabindex");
        delete node.dataset.stop;
      }
    }
  };

  const look = () => {
    // What is a region already says of itself that it scrolls.
    const tables = [...document.querySelectorAll("article table")].filter(
      (table) => !table.closest("[role=region]:not(.scrolls-sideways)"));
    const boxes = new Set(tables.map(scroller));
    boxes.delete(null);
    for (const box of document.querySelectorAll(".scrolls-sideways"))
      if (!boxes.has(box)) {
        box.classList.remove("scrolls-sideways", "at-its-end");
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    for (const box of boxes) {
      if (!box.classList.contains("scrolls-sideways")) {
        box.classList.add("scrolls-sideways");
        // Arrow keys scroll what has the focus.
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        const caption = box.querySelector("caption");
        const words = caption ? caption.textContent.trim() : "A wide table";
        box.setAttribute("aria-label", `${words} Scroll sideways for all columns.`);
        box.addEventListener("scroll", () => mark(box), { passive: true });
      }
      mark(box);
    }
    stops();
  };

  addEventListener("load", look);
  addEventListener("resize", look);
  // What was folded has no width before it is opened.
  document.addEventListener("toggle", look, true);

  // Sphinx measures whatever it marks in a picture; titles and styles in one have no measure, and it
  // stops at the first of them with an error. A word in there is not to be marked anyway.
  for (const node of document.querySelectorAll("svg :is(title, desc, style, script)"))
    node.classList.add("nohighlight");

  // And it takes the dots of a module's name, in the place that it found, for classes of a style
  // sheet: it then finds nothing there, warns, and quotes the page's beginning.
  if (typeof Search !== "undefined") {
    const text = Search.htmlToText;
    Search.htmlToText = (html, anchor) =>
      text(html, anchor && `#${CSS.escape(decodeURIComponent(anchor.slice(1)))}`);
  }
}
