"use strict";
// Text from data reaches the page through textContent only, so that no name can become markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byDigest = new Map(data.runs.runs.map((run) => [run.digest, run]));
  const dialog = document.getElementById("run");

  const make = (tag, text, ...children) => {
    const element = document.createElement(tag);
    if (text !== null && text !== undefined) element.textContent = text;
    element.append(...children);
    return element;
  };

  // ---- tables: sort by a click on a heading, filter rows by what they say ----
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (column === 0) return cell.textContent;
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const isMissing = (key) => key === "" || key === "\u2014";
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };
  const sortBy = (heading) => {
    const table = heading.closest("table");
    const column = heading.cellIndex;
    const former = heading.getAttribute("aria-sort");
    // A first click on numbers shows the largest first.
    const first = column === 0 ? "ascending" : "descending";
    const next = former === null ? first : former === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => isMissing(a) - isMissing(b) || sign * compare(a, b));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  const filter = (input) => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of input.closest("figure").querySelectorAll("tbody tr"))
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  };

  for (const holder of document.querySelectorAll("figure.table .scroll")) {
    if (holder.scrollWidth <= holder.clientWidth + 2) continue;
    const hint = make("span", " \u2194 scroll for more columns");
    hint.className = "quiet";
    holder.closest("figure").querySelector("figcaption").append(hint);
  }

  // ---- runs ----
  const describe = (pairs) => {
    const list = make("dl");
    for (const [name, value] of pairs) list.append(make("dt", name), make("dd", null, value));
    return list;
  };
  const openRun = (digest) => {
    const run = byDigest.get(digest);
    if (!run) return;
    document.getElementById("run-title").textContent = run.path;
    const numbers = run.results.map((r) => [`${r.metric} (${[r.stage, r.split].filter(Boolean).join(", ")})`, `${r.value} ${r.unit === "1" ? "" : r.unit}`]);
    const environment = run.environment === null ? "not recorded" : JSON.stringify(data.runs.environments[run.environment], null, 1);
    const detail = run.detail || {};
    const last = Object.entries(detail.last_finite || {}).map(([name, value]) => `${name} ${value}`).join(", ");
    const failure = [["reason", detail.reason], ["last finite", last], ["remedy", detail.remedy]].filter(([, text]) => text);
    document.getElementById("run-body").replaceChildren(
      describe([["status", run.status], ...failure, ["digest", run.digest], ["spec", run.spec], ["seed", String(run.seed)],
        ["folder", `results/store/${run.digest}/`], ["command", make("code", run.command)]]),
      make("h3", "Numbers"), describe(numbers),
      make("h3", "Config"), make("pre", run.config || "not in the store"),
      make("h3", "Environment"), make("pre", environment),
    );
    show(`#run=${digest}`);
  };
  const openList = (digests, title) => {
    document.getElementById("run-title").textContent = title;
    const items = digests.map((digest) => {
      const button = make("button", byDigest.has(digest) ? byDigest.get(digest).path : digest);
      button.type = "button";
      button.dataset.digest = digest;
      return make("li", null, button);
    });
    document.getElementById("run-body").replaceChildren(make("p", `Made from ${digests.length} runs:`), make("ul", null, ...items));
    show(null);
  };
  const show = (address) => {
    if (address) history.replaceState(null, "", address);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));

  document.addEventListener("click", (event) => {
    const sorter = event.target.closest("button.sort");
    if (sorter) return sortBy(sorter.closest("th"));
    const opener = event.target.closest("button.open");
    if (opener) {
      const digests = opener.dataset.runs.split(" ").map((position) => data.runs.runs[Number(position)].digest);
      return digests.length === 1 ? openRun(digests[0]) : openList(digests, opener.closest("tr").cells[0].textContent);
    }
    const run = event.target.closest("button[data-digest]");
    if (run) return openRun(run.dataset.digest);
  });
  document.addEventListener("input", (event) => { if (event.target.matches("input.filter")) filter(event.target); });

  // ---- charts: plotly.js lies compressed in the page and is unpacked when the first chart comes into view ----
  let plotly = null;
  const loadPlotly = () => {
    plotly ??= (async () => {
      const packed = atob(document.getElementById("plotly").textContent);
      const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = make("script", await new Response(stream).text());
      document.head.append(script);
      return window.Plotly;
    })();
    return plotly;
  };
  const draw = async (place, figure) => {
    const Plotly = await loadPlotly();
    const isNarrow = place.clientWidth < 560;
    const below = { orientation: "h", y: -0.2, font: { size: 11 } };
    const layout = {
      margin: { l: 60, r: 10, t: 10, b: 50 }, hovermode: "closest", font: { family: getComputedStyle(document.body).fontFamily },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "#fff", colorway: ["#333333"],
      ...(isNarrow ? { legend: below } : {}), ...figure.layout,
    };
    for (const axis of ["xaxis", "yaxis"]) layout[axis] = { gridcolor: "#e3e7ec", linecolor: "#c3cad3", showline: true, ...layout[axis] };
    await Plotly.react(place, figure.data, layout, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
    place.removeAllListeners?.("plotly_click");
    place.on("plotly_click", (event) => {
      const digest = event.points[0].customdata;
      if (typeof digest === "string") openRun(digest);
    });
    place.dataset.drawn = "yes";
  };
  const failed = (place) => (error) => { place.textContent = `This browser cannot draw the chart (${error.message}); the pictures beside this page show the same.`; };
  const whenSeen = (element, action) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      action();
    }, { rootMargin: "400px" });
    observer.observe(element);
  };
  const choose = (labels, onChange) => {
    const select = make("select", null, ...labels.map((label) => make("option", label)));
    select.addEventListener("change", () => onChange(select.selectedIndex));
    return select;
  };
  for (const holder of document.querySelectorAll("figure[data-chart]")) {
    const chart = data.charts.find((one) => one.id === holder.dataset.chart);
    const place = holder.querySelector(".plot");
    const render = (number) => draw(place, chart.figures[number]).catch(failed(place));
    if (chart.figures.length > 1) {
      const select = choose(chart.figures.map((figure) => figure.label), render);
      select.setAttribute("aria-label", `dataset and pair of: ${chart.title}`);
      place.before(select);
    }
    whenSeen(holder, () => render(0));
  }

  // ---- classes ----
  const groupSelect = document.getElementById("class-group");
  if (groupSelect) {
    const methodSelect = document.getElementById("class-method");
    const body = document.querySelector("#class-accuracy tbody");
    const place = document.getElementById("confusion");
    const asCell = (value, digits, sign = "") => {
      const cell = make("td", value === null ? "\u2014" : (value > 0 ? sign : "") + value.toFixed(digits));
      if (value !== null) cell.dataset.value = value;
      return cell;
    };
    const named = (group, number) => (number < 0 ? "no prediction" : group.classes[number]);
    const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
    const showClasses = () => {
      const group = data.classes[groupSelect.selectedIndex];
      const method = group.methods[methodSelect.selectedIndex];
      const baseline = group.methods.find((one) => one.method === "baseline");
      body.replaceChildren(...group.classes.map((name, number) => {
        const own = method.accuracy_percent[number];
        const base = baseline ? baseline.accuracy_percent[number] : null;
        const gain = own === null || base === null ? null : own - base;
        const heading = make("th", name);
        heading.scope = "row";
        return make("tr", null, heading, asCell(group.num_images[number] ?? 0, 0), asCell(own, 1), asCell(base, 1), asCell(gain, 1, "+"));
      }));
      for (const heading of document.querySelectorAll("#class-accuracy thead th")) heading.removeAttribute("aria-sort");
      filter(body.closest("figure").querySelector("input.filter"));
      whenSeen(place, () => showConfusion(group, method).catch(failed(place)));
    };
    const showConfusion = (group, method) => {
      const note = document.getElementById("confusion-note");
      if (group.classes.length <= 40) {
        note.textContent = `share of a label's images, in percent; ${method.num_runs} run(s)`;
        return draw(place, confusionMatrix(group, method));
      }
      note.textContent = `the most frequent mistakes; ${method.num_runs} run(s)`;
      return draw(place, frequentMistakes(group, method));
    };
    const confusionMatrix = (group, method) => {
      const size = group.classes.length;
      const counts = group.classes.map(() => new Array(size).fill(0));
      for (const [label, prediction, number] of method.confusion) if (prediction >= 0) counts[label][prediction] = number;
      const names = group.classes.map(plain);
      const z = counts.map((row, label) => row.map((number) => (100 * number) / Math.max(1, group.num_images[label] * method.num_runs)));
      const axis = (title) => ({ type: "category", title: { text: title }, automargin: true });
      return {
        data: [{ type: "heatmap", x: names, y: names, z, zmin: 0, zmax: 100, colorscale: "Cividis", hovertemplate: "%{y} taken for %{x}: %{z:.1f} %<extra></extra>" }],
        layout: { height: 220 + 22 * size, xaxis: { ...axis("prediction"), tickangle: -45 }, yaxis: { ...axis("label"), autorange: "reversed" } },
      };
    };
    const frequentMistakes = (group, method) => {
      const mistakes = method.confusion.filter(([label, prediction]) => label !== prediction).slice(0, 30);
      const names = mistakes.map(([label, prediction]) => plain(`${named(group, label)} taken for ${named(group, prediction)}`));
      return {
        data: [{ type: "bar", orientation: "h", x: mistakes.map((row) => row[2]), y: names, marker: { color: "#0173b2" }, hovertemplate: "%{y}: %{x} images<extra></extra>" }],
        layout: { height: 120 + 20 * mistakes.length, xaxis: { title: { text: "test images, over all runs" } }, yaxis: { type: "category", autorange: "reversed", automargin: true } },
      };
    };
    const fillMethods = () => {
      const group = data.classes[groupSelect.selectedIndex];
      methodSelect.replaceChildren(...group.methods.map((one) => make("option", one.method)));
      showClasses();
    };
    groupSelect.append(...data.classes.map((one) => make("option", one.group)));
    groupSelect.addEventListener("change", fillMethods);
    methodSelect.addEventListener("change", showClasses);
    fillMethods();
  }

  const linked = /^#run=([0-9a-f]+)$/.exec(location.hash);
  if (linked) openRun(linked[1]);
})();
