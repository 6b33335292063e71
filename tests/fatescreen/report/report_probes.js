({
  // The least contrast of text against what is behind it, for each kind of element that holds text.
  contrast() {
    const rgb = (text) => { const v = text.match(/[\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1]; };
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const under = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const colour = rgb(getComputedStyle(at).backgroundColor);
        if (colour[3] === 1) return colour;
      }
      return [255, 255, 255, 1];
    };
    const out = {};
    for (const node of document.querySelectorAll("main *, header *, nav *, footer *, .skip")) {
      const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
      if (!own || node.closest(":disabled, [aria-hidden]") || !node.getClientRects().length) continue;
      const style = getComputedStyle(node), svg = node.closest("svg");
      const a = light(rgb(svg ? style.fill : style.color)), b = light(under(svg ? svg.parentElement : node));
      const key = `${node.tagName}.${node.getAttribute("class")}`;
      out[key] = Math.min(out[key] ?? 99, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return out;
  },
  stops() {
    const all = [...document.querySelectorAll("a, button:enabled, input, select, summary, [tabindex='0']")];
    return all.filter((n) => n.checkVisibility({ visibilityProperty: true }) && n.getClientRects().length);
  },
  nameless() {
    const label = (n) => n.getAttribute("aria-label") || n.labels?.[0]?.textContent || n.textContent;
    return this.stops().filter((n) => !(label(n) || "").trim()).map((n) => n.outerHTML.slice(0, 120));
  },
  unmarked() {
    return document.querySelectorAll("svg:not([aria-hidden]):not([role=img][aria-label]), img:not([alt])").length;
  },
  // Elements outside the boxes that scroll on their own which reach beyond the window.
  beyond() {
    const all = [...document.querySelectorAll("main *")].filter((n) => !n.closest(".wide, .canvas"));
    return all.filter((n) => n.getBoundingClientRect().right > innerWidth + 1).map((n) => n.outerHTML.slice(0, 120));
  },
  focus() {
    const node = document.activeElement, style = getComputedStyle(node);
    return node === document.body ? null : { html: node.outerHTML.slice(0, 120), seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
  },
  highest(column) {
    return Math.max(...JSON.parse(document.getElementById("data").textContent).tables.genes.data[column]);
  },
})
