"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const slider = byId("eps"), select = byId("network"), table = byId("layers-table");
  const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const said = (value) => value == null ? "–" : Math.abs(value) >= 100 ? numbers.format(value) : String(+value.toPrecision(4));
  const state = { eps: data.eps.indexOf(data.first.eps), network: data.first.network, sort: null, down: true };

  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text != null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }
  const svgMake = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };

  // The address keeps what is chosen, so that a link shows it: #eps=0.1&step=100&run=…&sort=bits
  function readAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const given = wanted.get("eps"), eps = given === null ? -1 : data.eps.findIndex((one) => one === given || Number(one) === Number(given));
    if (eps >= 0) state.eps = eps;
    if (wanted.has("step")) {
      const run = wanted.get("run") ?? data.networks[state.network].run;
      const at = data.networks.findIndex((one) => one.run === run && one.step === Number(wanted.get("step")));
      if (at >= 0) state.network = at;
    }
    if (wanted.has("sort")) {
      state.down = !wanted.get("sort").startsWith("-");
      state.sort = wanted.get("sort").replace(/^-/, "");
    }
  }
  function writeAddress() {
    const network = data.networks[state.network], kept = new URLSearchParams({ eps: data.eps[state.eps] });
    if (network.step != null) kept.set("step", network.step);
    if (new Set(data.networks.map((one) => one.run)).size > 1) kept.set("run", network.run);
    if (state.sort) kept.set("sort", (state.down ? "" : "-") + state.sort);
    try { history.replaceState(null, "", "#" + kept); } catch { /* some viewers forbid it */ }
  }

  function show() {
    const eps = data.eps[state.eps], network = data.networks[state.network], point = network.points[eps];
    slider.value = state.eps;
    slider.setAttribute("aria-valuetext", "ε = " + eps);
    byId("eps-shown").textContent = eps;
    document.querySelector(".verdict").textContent = data.verdicts[state.eps];
    select.value = state.network;
    document.querySelectorAll("figure[data-eps], figure[data-run]").forEach((figure) => {
      const here = (figure.dataset.eps ?? eps) === eps && (figure.dataset.run ?? network.run) === network.run;
      figure.classList.toggle("on", here);
    });
    byId("key-name").textContent = network.name;
    byId("key-eps").textContent = eps;
    const cells = (point ? point.key : [["complexity", "–", "not measured at this ε"]]).map(([what, value, remark]) => {
      const cell = make("div"), answer = make("dd");
      answer.append(make("b", value), make("small", remark));
      cell.append(make("dt", what), answer);
      return cell;
    });
    document.querySelector("#key dl").replaceChildren(...cells);
    if (byId("bound-word")) {
      [byId("bound-word").textContent, byId("bound-rest").textContent] = point ? point.promise : ["No bound", "was measured at this ε."];
    }
    if (table) showTable(network, eps, point);
    showChosen(network);
  }

  const COLUMNS = ["layer", "bits", "shape", "form", "rank", "eff. rank", "step"];
  const counted = (column) => column === 1 || column > 3; // numbers begin with the largest, words with A
  function showTable(network, eps, point) {
    byId("table-name").textContent = network.name;
    byId("table-eps").textContent = eps;
    const rows = (point ? point.layers : []).map((row) => [data.names[row[0]], ...row.slice(1)]);
    const column = COLUMNS.indexOf(state.sort);
    if (column >= 0) {
      const sign = state.down === counted(column) ? -1 : 1;
      rows.sort((a, b) => {
        const [x, y] = [a[column], b[column]];
        if (x == null || y == null) return (x == null) - (y == null);
        return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
      });
    }
    table.querySelectorAll("thead th").forEach((head, index) => {
      const descending = state.down === counted(index);
      head.setAttribute("aria-sort", index === column ? (descending ? "descending" : "ascending") : "none");
    });
    const most = Math.max(1, ...rows.map((row) => row[1]));
    table.tBodies[0].replaceChildren(...rows.map((row) => {
      const line = make("tr");
      const name = make("th", null, { scope: "row" });
      row[0].split(/(?<=[._/-])/).forEach((part) => name.append(part, make("wbr")));
      line.append(name, make("td", numbers.format(row[1]), { class: "bar", style: `--share:${row[1] / most}` }));
      line.append(make("td", row[2], { class: "text" }), make("td", row[3], { class: "text" }), make("td", row[4] ?? "–"));
      line.append(make("td", row[5] == null ? "–" : row[5].toFixed(1)), make("td", row[6] == null ? "–" : String(+row[6].toPrecision(3))));
      return line;
    }));
    const last = table.tFoot && table.tFoot.querySelector("td");
    if (last) last.textContent = point && point.shared != null ? numbers.format(point.shared) : "–";
  }
  function prepareTable() {
    table.querySelectorAll("thead th").forEach((head, index) => {
      const button = make("button", head.textContent, { type: "button" });
      button.addEventListener("click", () => {
        state.down = state.sort === COLUMNS[index] ? !state.down : true;
        state.sort = COLUMNS[index];
        show();
        writeAddress();
      });
      head.replaceChildren(button);
    });
  }

  // Charts: where a value of x stands, as the drawing has it.
  function placeOf(axis, value) {
    if (!axis.log) return (value - axis.low) / (axis.high - axis.low);
    const at = value <= 0 && axis.zero ? axis.zero : value;
    return Math.log(at / axis.low) / Math.log(axis.high / axis.low);
  }
  const unitOf = (panel) => panel.unit ? " " + panel.unit : "";
  function showChosen(network) {
    document.querySelectorAll(".chosen").forEach((old) => old.remove());
    if (network.step == null || data.networks.length < 2) return;
    document.querySelectorAll("svg[data-chart]").forEach((svg) => {
      const chart = data.charts[svg.dataset.chart], axes = JSON.parse(svg.dataset.axes);
      if (!chart.stepped) return;
      const x = axes.left + 6 + placeOf(chart.x, network.step) * (axes.right - axes.left - 12);
      axes.panels.forEach(([top, bottom]) => svg.append(svgMake("path", { class: "chosen", d: `M${x} ${top}V${bottom}` })));
    });
  }
  function prepareChart(svg) {
    const chart = data.charts[svg.dataset.chart], axes = JSON.parse(svg.dataset.axes), figure = svg.closest("figure");
    const values = [...new Set(chart.panels.flatMap((panel) => panel.lines.flatMap((line) => line.x)))].sort((a, b) => a - b);
    if (!values.length) return;
    const xOf = (value) => axes.left + 6 + placeOf(chart.x, value) * (axes.right - axes.left - 12);
    const cursor = svgMake("path", { class: "cursor" }), box = make("div", null, { class: "readout", role: "status", hidden: "" });
    svg.append(cursor);
    figure.append(box);
    svg.setAttribute("tabindex", "0");
    let at = -1;
    function point(index) {
      at = index;
      const value = values[index], x = xOf(value), scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      cursor.setAttribute("d", axes.panels.map(([top, bottom]) => `M${x} ${top}V${bottom}`).join(""));
      const title = chart.x.names.length ? `${chart.x.label} = ${chart.x.names[value]}` : `${chart.x.label} ${said(value)}`;
      box.replaceChildren(make("b", title));
      chart.panels.forEach((panel) => {
        const found = panel.lines.flatMap((line) => {
          const here = line.x.indexOf(value);
          return here < 0 ? [] : [[line, line.y[here]]];
        }).sort((a, b) => b[1] - a[1]);
        found.slice(0, 8).forEach(([line, y]) => {
          const row = make("div"), name = make("span");
          name.append(make("i", null, { style: `background:var(--c${line.colour < 0 ? "n" : line.colour % 7})` }), line.label);
          row.append(name, make("span", said(y / panel.size) + unitOf(panel)));
          box.append(row);
        });
        if (found.length > 8) box.append(make("div", `and ${found.length - 8} more`));
      });
      box.hidden = false;
      const left = x * scale + 14, room = figure.clientWidth - box.offsetWidth;
      box.style.left = Math.max(0, left > room ? Math.min(room, x * scale - box.offsetWidth - 14) : left) + "px";
      box.style.top = axes.panels[0][0] * scale + "px";
    }
    function leave() {
      at = -1;
      box.hidden = true;
      cursor.removeAttribute("d");
    }
    function choose() {
      const network = data.networks[state.network];
      if (at < 0 || !chart.stepped) return;
      const found = data.networks.findIndex((one) => one.run === network.run && one.step === values[at]);
      if (found < 0) return;
      state.network = found;
      show();
      writeAddress();
    }
    svg.addEventListener("pointermove", (event) => {
      const bounds = svg.getBoundingClientRect(), x = (event.clientX - bounds.left) * svg.viewBox.baseVal.width / bounds.width;
      const distance = values.map((value) => Math.abs(xOf(value) - x));
      point(distance.indexOf(Math.min(...distance)));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("click", choose);
    svg.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (move) point(at < 0 ? (move > 0 ? 0 : values.length - 1) : Math.min(values.length - 1, Math.max(0, at + move)));
      else if (event.key === "Escape") leave();
      else if (event.key === "Enter" || event.key === " ") choose();
      else return;
      event.preventDefault();
    });
  }

  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  slider.addEventListener("input", () => { state.eps = Number(slider.value); show(); writeAddress(); });
  select.addEventListener("change", () => { state.network = Number(select.value); show(); writeAddress(); });
  window.addEventListener("hashchange", () => { readAddress(); show(); });
  if (table) prepareTable();
  document.querySelectorAll("svg[data-chart]").forEach(prepareChart);
  readAddress();
  show();
})();
