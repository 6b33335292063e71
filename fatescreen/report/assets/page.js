"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const strings = data.strings, lowered = strings.map((s) => s.toLocaleLowerCase("en"));
  const collator = new Intl.Collator("en", { numeric: true });
  document.documentElement.classList.remove("plain-page");

  const shown = (value, kind) => {
    if (kind === "text") return strings[value];
    if (value === null) return "";
    let text;
    if (kind === "count") text = Math.round(value).toLocaleString("en-GB");
    else if (kind === "p") text = value >= 0 && value < 1e-300 ? "<1e-300" : value < 0.001 ? value.toExponential(2) : String(Number(value.toPrecision(3)));
    else text = value.toFixed(kind === "z" ? 2 : 3).replace(/^-(?=[0.]*$)/, "");
    return text.replace(/^-/, "−");
  };
  const put = (parent, name, text, attributes = {}) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  const many = (n, word) => `${n.toLocaleString("en-GB")} ${word}${n === 1 ? "" : "s"}`;

  function grid(box) {
    const table = data.tables[box.dataset.table], body = box.querySelector("tbody"), search = box.querySelector("input");
    const all = Array.from({ length: table.rows }, (_, i) => i);
    const texts = table.columns.filter((c) => c.kind === "text").map((c) => table.data[c.key]);
    let order = all, found = all, page = 0;

    const draw = () => {
      const pages = Math.max(1, Math.ceil(found.length / table.page));
      page = Math.min(page, pages - 1);
      body.textContent = "";
      for (const i of found.slice(page * table.page, (page + 1) * table.page)) {
        const row = put(body, "tr");
        table.columns.forEach((c, j) => {
          const text = shown(table.data[c.key][i], c.kind);
          if (j === 0) put(row, "th", text, { scope: "row" });
          else put(row, "td", text, c.kind === "text" ? {} : { class: "number" });
        });
      }
      const first = found.length ? page * table.page + 1 : 0, last = Math.min(found.length, (page + 1) * table.page);
      box.querySelector(".where").textContent = `${first.toLocaleString("en-GB")}–${last.toLocaleString("en-GB")} of ${found.length.toLocaleString("en-GB")}`;
      box.querySelector(".count").textContent = found.length === table.rows ? many(table.rows, "row") : `${many(found.length, "row")} of ${table.rows.toLocaleString("en-GB")} found`;
      box.querySelector(".previous").disabled = page === 0;
      box.querySelector(".next").disabled = page >= pages - 1;
      box.querySelector(".pager").hidden = pages === 1;
    };
    const filter = () => {
      const words = search.value.trim().toLocaleLowerCase("en").split(/\s+/).filter(Boolean);
      const sets = words.map((word) => new Set(lowered.flatMap((s, code) => (s.includes(word) ? [code] : []))));
      found = words.length ? order.filter((i) => sets.every((set) => texts.some((codes) => set.has(codes[i])))) : order;
      page = 0;
      draw();
    };
    const sort = (button) => {
      const head = button.closest("th"), key = button.dataset.key, kind = table.columns.find((c) => c.key === key).kind, values = table.data[key];
      const first = kind === "text" || kind === "p" ? "ascending" : "descending";
      const way = head.getAttribute("aria-sort") === "none" ? first : head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of box.querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      order = all.slice().sort((a, b) => {
        const x = values[a], y = values[b];
        if (x === null || y === null) return (x === null) - (y === null) || a - b;
        return sign * (kind === "text" ? collator.compare(strings[x], strings[y]) : x - y) || a - b;
      });
      filter();
    };
    const cell = (value, kind) => (value === null ? "" : kind === "text" ? `"${strings[value].replaceAll('"', '""')}"` : String(value));
    const save = () => {
      const lines = [table.columns.map((c) => `"${c.label.replaceAll('"', '""')}"`).join(","), ...found.map((i) => table.columns.map((c) => cell(table.data[c.key][i], c.kind)).join(","))];
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv;charset=utf-8" }));
      link.download = `${box.dataset.table}.csv`;
      link.click();
      URL.revokeObjectURL(link.href);
    };
    search.addEventListener("input", filter);
    box.querySelector(".csv").addEventListener("click", save);
    box.querySelector("thead").addEventListener("click", (event) => { const button = event.target.closest("button"); if (button) sort(button); });
    box.querySelector(".previous").addEventListener("click", () => { page -= 1; draw(); });
    box.querySelector(".next").addEventListener("click", () => { page += 1; draw(); });
    draw();
  }

  function ticks(low, high, n) {
    const rough = (high - low) / n, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough);
    const out = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) out.push(Number((i * step).toPrecision(12)));
    return out;
  }

  function volcano(box) {
    const plot = data.plots[box.dataset.volcano], table = data.tables[plot.table], select = box.querySelector("select"), search = box.querySelector("input");
    const canvas = box.querySelector(".canvas"), readout = box.querySelector(".readout");
    const make = (name, attributes, text) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    const name = (i) => plot.names.map((key) => strings[table.data[key][i]]).join(" · ");
    let points = [], here = -1;

    const pick = (at) => {
      if (here >= 0) points[here].node.classList.remove("here");
      here = at;
      if (at < 0) return;
      const p = points[at];
      p.node.classList.add("here");
      p.node.parentNode.append(p.node);
      readout.textContent = `${name(p.row)}: ${plot.xLabel} ${shown(p.x, "effect")}, ${plot.yLabel} ${shown(p.y, "z")}`;
    };
    const draw = () => {
      const choice = plot.choices[select.value], xs = table.data[choice.x], ys = table.data[choice.y];
      const only = choice.only && strings.indexOf(choice.only[1]), rows = [];
      for (let i = 0; i < table.rows; i++) if (xs[i] !== null && ys[i] !== null && (!choice.only || table.data[choice.only[0]][i] === only)) rows.push(i);
      const width = Math.max(300, Math.round(canvas.clientWidth)), height = Math.round(Math.min(440, 160 + width * 0.5)), left = 50, bottom = height - 42;
      const reach = Math.max(1e-6, ...rows.map((i) => Math.abs(xs[i]))) * 1.08, top = Math.max(1, ...rows.map((i) => ys[i])) * 1.08;
      const px = (v) => left + ((v + reach) / (2 * reach)) * (width - left - 12), py = (v) => bottom - (v / top) * (bottom - 12);
      const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
      for (const t of ticks(-reach, reach, width > 500 ? 8 : 4)) {
        svg.append(make("path", { d: `M${px(t)} 12V${bottom}`, class: t === 0 ? "ref" : "grid" }), make("text", { x: px(t), y: bottom + 15, "text-anchor": "middle", class: "tick" }, String(t).replace("-", "−")));
      }
      for (const t of ticks(0, top, 5)) svg.append(make("path", { d: `M${left} ${py(t)}H${width - 12}`, class: "grid" }), make("text", { x: left - 6, y: py(t) + 4, "text-anchor": "end", class: "tick" }, String(t)));
      svg.append(make("path", { d: `M${left} 12V${bottom}H${width - 12}`, class: "axis" }), make("text", { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }, plot.xLabel));
      svg.append(make("text", { x: 13, y: bottom / 2, transform: `rotate(-90 13 ${bottom / 2})`, "text-anchor": "middle" }, plot.yLabel));
      const [flagKey, limit] = plot.flag, flagged = (i) => (flagKey ? table.data[flagKey][i] !== null && table.data[flagKey][i] <= limit : ys[i] >= limit);
      const words = search.value.trim().toLocaleLowerCase("en"), wanted = (i) => words !== "" && name(i).toLocaleLowerCase("en").includes(words);
      rows.sort((a, b) => ys[b] - ys[a] || a - b);
      const layer = make("g", {}), labels = make("g", {}), taken = new Set();
      points = []; here = -1;
      let named = 0, hits = 0, strong = 0;
      const places = [];
      for (const i of rows) {
        const x = px(xs[i]), y = py(ys[i]), flag = flagged(i), hit = wanted(i), spot = `${Math.round(x / 2)},${Math.round(y / 2)}`;
        hits += hit; strong += flag;
        if (taken.has(spot) && !hit) continue; // hidden by another point
        taken.add(spot);
        const node = make("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: hit ? 5 : flag ? 3.6 : 2.4, class: `pt${flag ? " flag" : ""}${hit ? " found" : ""}`, "data-at": points.length });
        points.push({ row: i, x: xs[i], y: ys[i], node });
        if (words ? hit && named < 20 : flag && named < 8) {
          const label = name(i), text = label.length > 24 ? label.slice(0, 23) + "…" : label, right = x < width - 120;
          if (places.every(([a, b]) => Math.abs(a - x) > 90 || Math.abs(b - y) > 12)) {
            labels.append(make("text", { x: right ? x + 7 : x - 7, y: y + 4, "text-anchor": right ? "start" : "end", class: "named" }, text));
            places.push([x, y]); named += 1;
          }
        }
      }
      for (const p of points.slice().reverse()) layer.append(p.node);
      svg.append(layer, labels);
      canvas.textContent = "";
      canvas.append(svg);
      readout.textContent = words ? `${many(hits, "point")} of ${rows.length.toLocaleString("en-GB")} found` : `${many(rows.length, "point")}, ${strong.toLocaleString("en-GB")} ${plot.flagLabel}. Hover over a point, or use the arrow keys.`;
    };
    canvas.addEventListener("pointermove", (event) => { const at = event.target.dataset.at; if (at !== undefined) pick(Number(at)); });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (step === undefined || !points.length) return;
      event.preventDefault();
      pick(here < 0 ? 0 : Math.min(points.length - 1, Math.max(0, here + step)));
    });
    select.addEventListener("change", draw);
    search.addEventListener("input", draw);
    let width = 0;
    new ResizeObserver(() => { if (canvas.clientWidth !== width) { width = canvas.clientWidth; draw(); } }).observe(canvas);
    draw();
  }

  document.querySelectorAll("[data-table]").forEach(grid);
  document.querySelectorAll("[data-volcano]").forEach(volcano);

  addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((part) => { part.open = true; }));

  const links = [...document.querySelectorAll("nav a")];
  const spy = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links) {
        if (link.hash === `#${entry.target.id}`) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > section").forEach((section) => spy.observe(section));
  for (const link of document.querySelectorAll("nav.fold a")) link.addEventListener("click", () => { link.closest("details").open = false; });
})();
