"use strict";
(() => {
  const root = document.documentElement;
  const narrow = matchMedia("(max-width:700px)");
  const darkPreferred = matchMedia("(prefers-color-scheme:dark)");
  // Okabe and Ito's colours, which people with colour vision deficiencies can tell apart; the
  // symbols say the same without colour.
  const PALETTE = {
    light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a9bd9", "#7a3e9d", "#5b4636", "#000000", "#7f7f00"],
    dark: ["#56b4e9", "#ff8a3c", "#3fd0a4", "#e8a3c8", "#f0c419", "#8ab8ff", "#c59bf0", "#c8ad97", "#ffffff", "#c9c94a"],
  };
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "star", "triangle-down", "hexagon", "cross", "pentagon"];
  const PAPER = 680; // pixels that fit on A4 and on letter
  const charts = new Map();
  const picked = new Set();

  let printing = false;
  const isDark = () =>
    printing ? false : root.dataset.theme ? root.dataset.theme === "dark" : darkPreferred.matches;
  // What plotly takes for markup in a text must be told as text.
  const plain = (text) =>
    String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // On a phone a long name of a category takes several lines.
  const category = (text) => {
    if (!narrow.matches || text.length < 19) return plain(text);
    if (text.includes(" = ")) return plain(text).replace(/ = (?!.* = )/, "<br>= ");
    return plain(text).replace(/ /g, "<br>");
  };
  const data = (key) => {
    if (!charts.has(key)) {
      charts.set(key, JSON.parse(document.getElementById("data-" + key).textContent));
    }
    return charts.get(key);
  };

  // ---- theme --------------------------------------------------------------------------------
  const themeButton = document.getElementById("theme");
  const nameTheme = () => {
    themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
  };
  themeButton.hidden = false;
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
    redraw();
  });
  darkPreferred.addEventListener("change", () => {
    nameTheme();
    redraw();
  });
  nameTheme();

  // ---- leaderboard --------------------------------------------------------------------------
  const table = document.getElementById("leaderboard");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const filter = document.getElementById("filter");
    const count = document.getElementById("count");
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !words.every((word) => texts[i].includes(word));
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
    });
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const largest = head.dataset.first === "largest";
        const now = head.getAttribute("aria-sort");
        const first = largest ? "descending" : "ascending";
        const next = now === first ? (largest ? "ascending" : "descending") : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", next);
        sortRows(body, rows, column, next === "descending" ? -1 : 1);
      });
    });
    rows.forEach((row) => {
      const box = row.querySelector("input");
      const rank = Number(row.dataset.rank);
      if (box.checked) picked.add(rank);
      box.addEventListener("change", () => {
        if (box.checked) picked.add(rank);
        else picked.delete(rank);
        redraw();
      });
    });
  }

  function sortRows(body, rows, column, sign) {
    const values = new Map(
      rows.map((row) => {
        const cell = row.cells[column];
        const number = cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
        return [row, { number, text: cell.textContent.trim() }];
      })
    );
    const numeric = [...values.values()].some((value) => !Number.isNaN(value.number));
    const sorted = [...rows].sort((a, b) => {
      const one = values.get(a);
      const other = values.get(b);
      let order;
      if (numeric) {
        const missing = Number.isNaN(one.number) - Number.isNaN(other.number);
        if (missing) return missing; // last, whichever way round
        order = Number.isNaN(one.number) ? 0 : one.number - other.number;
      } else {
        order = one.text.localeCompare(other.text, "en", { numeric: true });
      }
      return sign * order || a.dataset.rank - b.dataset.rank;
    });
    body.append(...sorted);
  }

  // ---- figures ------------------------------------------------------------------------------
  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function traces(chart, byCompute) {
    const palette = PALETTE[isDark() ? "dark" : "light"];
    const grey = isDark() ? "#59616d" : "#b9c0c8";
    const horizontal = chart.categories.length > 0;
    const strong = chart.series.filter(
      (s) => (s.rank === undefined && s.role === "best") || picked.has(s.rank)
    );
    const places = new Map(strong.map((s, i) => [s, i % palette.length]));
    const found = [];
    const many = { x: [], y: [], text: [], n: 0, line: false };
    for (const s of chart.series) {
      let x = byCompute && s.compute ? s.compute : s.x;
      const hover = (s.hover || s.x.map(() => s.name)).map((text) =>
        plain(s.rank ? `${s.rank}. ${s.name}\n${text}` : text).replace(/\n/g, "<br>")
      );
      if (s.role === "other" && !places.has(s)) {
        many.x.push(...x, null);
        many.y.push(...s.y, null);
        many.text.push(...hover, "");
        many.n += 1;
        many.line = many.line || !s.noLine;
        continue;
      }
      const place = places.get(s);
      const dull = place === undefined;
      if (chart.yReversed && !dull) {
        // Side by side: intervals of one rung would hide each other.
        const span = Math.max(...chart.series.flatMap((one) => one.x));
        x = x.map((v) => v + (place - (places.size - 1) / 2) * span * 0.005);
      }
      const colour =
        s.role === "control" ? style("--soft")
        : s.role === "front" || s.role === "reference" ? style("--soft")
        : dull ? grey : palette[place];
      const trace = {
        type: "scatter",
        name: plain(s.rank ? `${s.rank}. ${s.name}` : s.name),
        x, y: horizontal ? s.y.map(category) : s.y,
        mode: (s.noLine ? "" : "lines") + (s.noLine || s.noMarkers ? "" : "+") + (s.noMarkers ? "" : "markers"),
        line: { color: colour, width: s.role === "front" ? 1.5 : 2, dash: s.role === "control" ? "dash" : s.role === "reference" ? "dot" : "solid" },
        marker: {
          color: colour, size: 9, opacity: 1,
          symbol: (s.role === "control" ? "x-thin" : s.role === "reported" ? "asterisk" : SYMBOLS[place || 0]) + (s.hollow ? "-open" : s.role === "control" ? "-open" : ""),
          line: { color: colour, width: s.hollow || s.role === "control" ? 2 : 0 },
        },
        text: hover, hoverinfo: "text",
        showlegend: horizontal ? chart.series.length > 1 && s.rank !== undefined : true,
      };
      if (s.low && !dull) {
        const along = horizontal ? x : s.y;
        trace[horizontal ? "error_x" : "error_y"] = {
          type: "data", symmetric: false, thickness: 1.2, width: 3, color: colour,
          array: along.map((v, i) => s.high[i] - v),
          arrayminus: along.map((v, i) => v - s.low[i]),
        };
      }
      found.push(trace);
    }
    if (many.n) {
      found.unshift({
        type: "scatter", x: many.x, y: many.y, text: many.text, hoverinfo: "text",
        mode: many.line ? "lines+markers" : "markers",
        line: { color: grey, width: 1 }, marker: { color: grey, size: many.n > 200 ? 3 : 6 },
        name: `${many.n} others`, showlegend: true, connectgaps: false,
      });
    }
    return found;
  }

  function layout(plot, chart, byCompute) {
    const grid = printing ? "#ccc" : style("--line");
    const fg = printing ? "#000" : style("--fg");
    const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickangle: 0 };
    const compute = byCompute && chart.series.some((s) => s.compute);
    const horizontal = chart.categories.length > 0;
    const shown = chart.series.filter((s) => s.role !== "other" || picked.has(s.rank)).length;
    const legend = horizontal ? chart.series.length > 1 && chart.series.some((s) => s.rank) : true;
    const perRow = Math.max(1, Math.floor((printing ? PAPER : plot.clientWidth) / 280));
    const legendHeight = legend ? 8 + 20 * Math.ceil((shown + 1) / perRow) : 0;
    return {
      width: printing ? PAPER : undefined,
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 13, color: fg },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 60, r: 14, t: 36, b: 58 + legendHeight },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: style("--soft"), activecolor: style("--accent") },
      height: horizontal
        ? 100 + (narrow.matches ? 40 : 28) * chart.categories.length + legendHeight
        : 400 + legendHeight,
      hovermode: "closest",
      hoverlabel: { align: "left", font: { family: getComputedStyle(document.body).fontFamily } },
      dragmode: matchMedia("(pointer:coarse)").matches || narrow.matches ? false : "zoom",
      legend: { orientation: "h", y: 0, yref: "container", yanchor: "bottom", x: 0, xanchor: "left" },
      xaxis: { ...axis, title: { text: compute ? "training compute of what was trained (FLOPs)" : plain(chart.xTitle), standoff: 8 },
        ...(compute || chart.xLog ? logTicks(chart, compute) : { type: "linear", nticks: narrow.matches ? 5 : 8 }) },
      yaxis: horizontal
        ? { ...axis, automargin: true, type: "category", categoryorder: "array", categoryarray: chart.categories.map(category), autorange: "reversed", title: { text: "" } }
        : { ...axis, title: { text: plain(chart.yTitle), standoff: 8 }, ...range(chart) },
      showlegend: legend,
    };
  }

  // Within a decade or two plotly's own ticks of a logarithmic axis run into each other.
  function logTicks(chart, compute) {
    const values = chart.series.flatMap((s) => (compute && s.compute) || s.x).filter((v) => v > 0);
    const least = values.reduce((a, b) => Math.min(a, b), Infinity);
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    const decades = Math.log10(most / least);
    const steps = decades < 1.3 ? [1, 1.5, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
    const tickvals = [];
    for (let power = Math.floor(Math.log10(least)) - 1; power <= Math.log10(most) + 1; power += 1) {
      tickvals.push(...steps.map((step) => step * 10 ** power));
    }
    const prefixes = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, chart.key === "score-params" ? "B" : "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
    const ticktext = tickvals.map((value) => {
      const [size, prefix] = prefixes.find(([unit]) => value >= unit * 0.9999) || [1, ""];
      return Number((value / size).toPrecision(3)) + prefix;
    });
    return { type: "log", tickmode: "array", tickvals, ticktext };
  }

  // Ranks from the top, half a rank of room on both sides.
  function range(chart) {
    if (!chart.yReversed) return {};
    const worst = Math.max(...chart.series.flatMap((s) => s.high || s.y));
    return { range: [worst + 0.5, 0.5] };
  }

  const drawn = new Set();
  function draw(plot) {
    const chart = data(plot.dataset.chart);
    const box = plot.closest("figure").querySelector(".compute");
    const byCompute = Boolean(box && box.checked);
    drawn.add(plot);
    const placed = layout(plot, chart, byCompute);
    plot.style.minHeight = placed.height + "px";
    Plotly.react(plot, traces(chart, byCompute), placed, {
      displaylogo: false, responsive: true, typesetMath: false,
      // Named one by one: among plotly's own choice is a button that sends a chart to a server.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
      toImageButtonOptions: { filename: chart.key, scale: 2 },
    });
    // The figure has a name and a table of its numbers; its lines and ticks say nothing read aloud.
    document.querySelectorAll("svg").forEach((part) => part.setAttribute("aria-hidden", "true"));
  }
  function redraw() {
    drawn.forEach((plot) => {
      if (!plot.closest("[hidden]")) draw(plot);
      else drawn.delete(plot);
    });
  }
  const plots = [...document.querySelectorAll(".plot")];
  const visible = (plot) => !plot.closest("[hidden]");
  const watcher = new IntersectionObserver(
    (entries) => entries.forEach((entry) => {
      if (entry.isIntersecting && visible(entry.target) && !drawn.has(entry.target)) draw(entry.target);
    }),
    { rootMargin: "300px" }
  );
  plots.forEach((plot) => watcher.observe(plot));
  addEventListener("beforeprint", () => {
    printing = true;
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    redraw();
  });

  document.querySelectorAll(".compute").forEach((box) =>
    box.addEventListener("change", () => draw(box.closest("figure").querySelector(".plot")))
  );
  document.querySelectorAll("button.tab").forEach((tab) =>
    tab.addEventListener("click", () => {
      const group = tab.closest("section");
      const compute = group.querySelector("figure:not([hidden]) .compute");
      group.querySelectorAll("button.tab").forEach((other) =>
        other.setAttribute("aria-pressed", String(other === tab))
      );
      group.querySelectorAll("figure").forEach((figure) => {
        figure.hidden = figure.id !== "figure-" + tab.dataset.show;
        if (!figure.hidden) {
          const box = figure.querySelector(".compute");
          if (box && compute) box.checked = compute.checked;
          draw(figure.querySelector(".plot"));
        }
      });
    })
  );

  // ---- the numbers of a figure, for who can't see it -----------------------------------------
  document.querySelectorAll("details.numbers").forEach((details) =>
    details.addEventListener("toggle", () => {
      const place = details.querySelector("div");
      if (!details.open || place.firstChild) return;
      const chart = data(details.closest("figure").querySelector(".plot").dataset.chart);
      const horizontal = chart.categories.length > 0;
      const titles = ["name", chart.xTitle, chart.yTitle, "from", "to"];
      if (chart.series.some((s) => s.compute)) titles.push("training FLOPs");
      const made = document.createElement("table");
      made.className = "plain";
      const head = made.createTHead().insertRow();
      titles.forEach((title) => {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.textContent = title;
        head.append(cell);
      });
      const body = made.createTBody();
      const show = (value) =>
        typeof value === "number" ? String(Number(value.toPrecision(4))) : value === undefined || value === null ? "" : value;
      chart.series.slice(0, 200).forEach((s) => s.x.forEach((x, i) => {
        const row = body.insertRow();
        const cells = [s.rank ? `${s.rank}. ${s.name}` : s.name, x, s.y[i], s.low && s.low[i], s.high && s.high[i]];
        if (titles.length > 5) cells.push(s.compute && s.compute[i]);
        cells.forEach((value, j) => {
          const cell = row.insertCell();
          cell.textContent = show(value);
          if (j && !(horizontal && j === 2)) cell.className = "n";
        });
      }));
      place.append(made);
    })
  );
})();
