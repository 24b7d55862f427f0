"use strict";
// The page of a Pareto front. Reads the JSON in #data; needs Plotly and elements.js.

(() => {
  const { plotLayout, AXIS, byId, element, number, interval, escaped, copyButton, breakable } = elements;
  const { front, names, labels, quantities, costs, bounds, tied, finish } = JSON.parse(byId("data").textContent);
  const best = front.points.filter((point) => point.on_front);
  const knee = best.find((point) => point.key === front.knee);
  const units = Object.fromEntries(front.points.flatMap((p) => names.map((n) => [n, p.values[n]?.unit ?? ""])));
  const plot = byId("plot");
  const line = byId("budget-line");
  const state = { cost: costs[0], budget: 0, cautious: false };

  // ---- numbers and words

  function roundedUp(value) {
    const unit = 10 ** (Math.floor(Math.log10(value || 1)) - 2);
    return Number((Math.ceil(value / unit) * unit).toPrecision(3));
  }

  const shortUnit = (name) => (/^[a-zA-Z]{1,5}$/.test(units[name]) ? " " + units[name] : "");

  function withInterval(point, name) {
    const value = point.values[name];
    const range = interval(value);
    return `${number(value.value)}${shortUnit(name)}${range && ` (${range})`}`;
  }

  function wrapped(text, width = 64) {
    const lines = [""];
    for (const token of text.split(/(?<=,)/)) {
      if (lines.at(-1).length + token.length > width) lines.push("");
      lines[lines.length - 1] += token;
    }
    return lines;
  }

  function hoverText(point) {
    const role = point.key === front.knee ? "knee of the front" : point.on_front ? "on the front"
      : point.feasible ? `dominated (layer ${point.rank})` : "breaks a constraint";
    const values = names.filter((name) => point.values[name]).map((name) => {
      const { value, source, unit } = point.values[name];
      const range = interval(point.values[name]);
      const shown = unit === name ? "" : ` ${unit}`;
      return `${quantities[name]}: <b>${number(value)}</b>${escaped(shown)}${range && `, ${range}`} · ${source}`;
    });
    return [...wrapped(point.text).map((text) => `<b>${escaped(text)}</b>`), escaped(`${point.key} · ${role}`), ...values]
      .join("<br>");
  }

  // ---- the best network within the budget

  const at = (point, name) => point.values[name].value;
  const spent = (point) => (state.cautious ? point.values[state.cost].upper : null) ?? at(point, state.cost);
  const within = (point) => spent(point) <= state.budget;

  function bestWithin() {
    const better = (a, b) => at(b, "accuracy") - at(a, "accuracy") || spent(a) - spent(b);
    return front.points.filter((point) => point.feasible && within(point)).sort(better)[0];
  }

  // ---- the plot

  function frontLine() {
    // Of the front in all objectives, what is not dominated in the two that are drawn.
    const drawn = [];
    const order = (a, b) => at(a, state.cost) - at(b, state.cost) || at(b, "accuracy") - at(a, "accuracy");
    for (const point of [...best].sort(order)) {
      if (!drawn.length || at(point, "accuracy") > at(drawn.at(-1), "accuracy")) drawn.push(point);
    }
    return drawn;
  }

  function trace(name, points, rest) {
    return {
      name,
      type: "scatter",
      mode: "markers",
      x: points.map((point) => at(point, state.cost)),
      y: points.map((point) => at(point, "accuracy")),
      text: points.map(hoverText),
      hovertemplate: "%{text}<extra></extra>",
      ...rest,
    };
  }

  function errorBars(points, name) {
    const values = points.map((point) => point.values[name]);
    return {
      type: "data",
      array: values.map((v) => (v.upper ?? v.value) - v.value),
      arrayminus: values.map((v) => v.value - (v.lower ?? v.value)),
      visible: values.some((v) => v.lower !== null),
      color: "rgba(31,111,180,0.45)",
      thickness: 1.2,
      width: 3,
    };
  }

  // A thick line through each group of networks that are tied; the groups are one trace, with gaps between them.
  function tiedTrace() {
    const groups = tied.groups.filter((keys) => keys.length > 1).map((keys) =>
      best.filter((point) => keys.includes(point.key)).sort((a, b) => at(a, state.cost) - at(b, state.cost)));
    const column = (name) => groups.flatMap((points) => [...points.map((point) => at(point, name)), null]);
    return trace("tied", [], {
      name: escaped(tied.text), mode: "lines", x: column(state.cost), y: column("accuracy"),
      line: { width: 24, color: "#d4e6f5" }, hoverinfo: "skip", hovertemplate: null,
    });
  }

  function traces() {
    const chosen = bestWithin();
    return [
      tiedTrace(),
      trace("breaks a constraint", front.points.filter((point) => !point.feasible), {
        marker: { symbol: "x-thin", size: 7, line: { width: 1.2, color: "#b9a3a3" } },
      }),
      trace("dominated", front.points.filter((point) => point.feasible && !point.on_front), {
        marker: { size: 7, color: "#c3cad1" },
      }),
      trace("front line", frontLine(), {
        mode: "lines", line: { shape: "hv", width: 1.5, color: "#1f6fb4" }, hoverinfo: "skip", hovertemplate: null,
        showlegend: false,
      }),
      trace("Pareto front", best, {
        marker: { size: 10, color: "#1f6fb4", line: { width: 1, color: "white" } },
        error_x: errorBars(best, state.cost),
        error_y: errorBars(best, "accuracy"),
      }),
      trace("knee", knee ? [knee] : [], {
        marker: { symbol: "star", size: 18, color: "#f5b301", line: { width: 1.2, color: "#7a5200" } },
      }),
      trace("best within the budget", chosen ? [chosen] : [], {
        marker: { symbol: "circle-open", size: 25, color: "#d9480f", line: { width: 3 } }, hoverinfo: "skip",
        hovertemplate: null,
      }),
    ].filter(({ name, x }) => x.length || name === "best within the budget");
  }

  // Fixed, because the ring around the best network would move ranges that Plotly finds by itself.
  function range(name) {
    const ends = (point) => [at(point, name), ...(point.on_front ? [point.values[name].lower, point.values[name].upper] : [])];
    const values = front.points.flatMap(ends).filter((value) => value !== null);
    if (!values.length) return [0, 1];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low) / 25 || Math.abs(high) / 10 || 1;
    return [low - margin, high + margin];
  }

  function layout() {
    const bound = bounds[state.cost];
    return {
      uirevision: state.cost, // keeps what people zoomed to
      ...plotLayout(),
      xaxis: { ...AXIS, range: range(state.cost), title: { text: escaped(labels[state.cost]), standoff: 10 } },
      yaxis: { ...AXIS, range: range("accuracy"), title: { text: escaped(labels.accuracy) } },
      shapes: bound === undefined ? [] : [
        { type: "line", x0: bound, x1: bound, y0: 0, y1: 1, yref: "paper", line: { color: "#8a97a3", dash: "dot", width: 1.5 } },
      ],
      annotations: bound === undefined ? [] : [
        { x: bound, y: 0, yref: "paper", yanchor: "bottom", xanchor: "right", showarrow: false, text: "constraint",
          font: { color: "#5b6a79", size: 12 } },
      ],
    };
  }

  function draw() {
    return Plotly.react(plot, traces(), layout(), {
      responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    });
  }

  // ---- the budget line over the plot

  function placeLine() {
    const { xaxis, yaxis } = plot._fullLayout;
    const offset = xaxis.d2p(state.budget);
    line.hidden = !(offset >= 0 && offset <= xaxis._length);
    line.classList.toggle("left", offset > xaxis._length - 190);
    Object.assign(line.style, {
      left: `${xaxis._offset + offset}px`, top: `${yaxis._offset}px`, height: `${yaxis._length}px`,
    });
    line.firstElementChild.textContent = `budget ${number(state.budget)}${shortUnit(state.cost)}`;
    line.setAttribute("aria-valuenow", state.budget);
  }

  function dragLine(event) {
    const { xaxis } = plot._fullLayout;
    const offset = event.clientX - plot.getBoundingClientRect().left - xaxis._offset;
    setBudget(xaxis.p2d(Math.min(Math.max(offset, 0), xaxis._length)));
  }

  line.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    line.focus();
    const stop = () => {
      window.removeEventListener("pointermove", dragLine);
      window.removeEventListener("pointerup", stop);
      window.removeEventListener("pointercancel", stop);
    };
    window.addEventListener("pointermove", dragLine);
    window.addEventListener("pointerup", stop);
    window.addEventListener("pointercancel", stop);
  });

  line.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const [low, high] = span();
    setBudget(state.budget + (step * (high - low)) / 100);
  });

  // ---- what stands around the plot

  function showBest() {
    const box = byId("best");
    const point = bestWithin();
    const budget = `${quantities[state.cost]} of at most ${number(state.budget)}${shortUnit(state.cost)}`;
    if (!point) {
      const feasible = front.points.filter((other) => other.feasible);
      const least = feasible.sort((a, b) => spent(a) - spent(b))[0];
      const text = least ? `the least is ${number(spent(least))}${shortUnit(state.cost)}` : "none keeps the constraints";
      box.replaceChildren(element("p", { text: `No network has ${budget}; ${text}.` }));
      return;
    }
    const { source } = point.values[state.cost];
    const command = `${finish} ${point.key}`;
    box.replaceChildren(
      element("p", {}, [
        `Best with ${budget}: `, element("strong", { text: `accuracy ${withInterval(point, "accuracy")}` }),
        ` at ${withInterval(point, state.cost)}, ${source}.`,
      ]),
      element("p", {}, [breakable(point.text)]),
      element("div", { className: "command" }, [element("code", { text: command }), copyButton(command)]),
    );
  }

  function showTable() {
    const chosen = bestWithin();
    const heads = names.map((name) => {
      const sources = new Set(best.map((point) => point.values[name]?.source).filter(Boolean));
      const unit = units[name] === name ? "" : units[name];
      const note = [unit, ...sources].filter(Boolean).join(", ");
      return element("th", { className: "number", text: quantities[name] }, [element("small", { text: note })]);
    });
    const rows = [...best].sort((a, b) => at(a, state.cost) - at(b, state.cost)).map((point) => {
      const cells = names.map((name) => {
        const value = point.values[name];
        if (!value) return element("td");
        return element("td", { className: "number", text: number(value.value) },
          [element("small", { text: interval(value) })]);
      });
      const marks = point === knee ? [element("div", { className: "knee", text: "★ knee" })] : [];
      const className = point === chosen ? "best" : within(point) ? "" : "over";
      return element("tr", { className }, [
        element("td", { className: "network" }, [breakable(point.text), element("small", { text: point.key }), ...marks]),
        ...cells,
        element("td", {}, [copyButton(`${finish} ${point.key}`)]),
      ]);
    });
    byId("table").replaceChildren(
      element("thead", {}, [element("tr", {}, [
        element("th", { text: "network" }), ...heads, element("th", { text: "finish" }),
      ])]),
      element("tbody", {}, rows),
    );
  }

  // ---- changes

  function span() {
    const values = front.points.filter((point) => point.feasible).map((point) => at(point, state.cost));
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return values.length ? [low - (high - low) / 50, high + (high - low) / 50] : [0, 1];
  }

  function setBudget(budget) {
    state.budget = Math.max(0, Number(budget.toPrecision(5)));
    show();
  }

  function setCost(cost) {
    state.cost = cost;
    byId("budget-name").textContent = `${quantities[cost]} at most`;
    byId("budget-unit").textContent = shortUnit(cost);
    const values = best.map((point) => point.values[cost]);
    byId("cautious-choice").hidden = !values.some((value) => value.lower !== null);
    // Begin where the run's own bound is, else just beyond the knee.
    state.budget = bounds[cost] ?? roundedUp(knee ? at(knee, cost) : span()[1]);
  }

  function show() {
    const [low, high] = span();
    byId("budget-slider").value = (1000 * (state.budget - low)) / (high - low || 1);
    if (document.activeElement !== byId("budget")) byId("budget").value = state.budget;
    byId("cautious").checked = state.cautious;
    byId("cost").value = state.cost;
    line.setAttribute("aria-valuemin", low);
    line.setAttribute("aria-valuemax", high);
    showBest();
    showTable();
    return draw();
  }

  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("cost").append(...costs.map((name) => element("option", { value: name, text: labels[name] })));
  byId("cost-choice").hidden = costs.length < 2;
  byId("cost").addEventListener("change", (event) => {
    setCost(event.target.value);
    show();
  });
  byId("budget").addEventListener("input", (event) => {
    if (event.target.value !== "" && Number.isFinite(event.target.valueAsNumber)) setBudget(event.target.valueAsNumber);
  });
  byId("budget-slider").addEventListener("input", (event) => {
    const [low, high] = span();
    setBudget(low + (event.target.valueAsNumber / 1000) * (high - low));
  });
  byId("cautious").addEventListener("change", (event) => {
    state.cautious = event.target.checked;
    show();
  });

  byId("summary").textContent = [
    `${number(front.evaluated)} networks evaluated`,
    ...(front.constraints.length ? [`${number(front.feasible)} keep ${front.constraints.join(" and ")}`] : []),
    `${number(front.on_front)} on the front`,
  ].join(" · ");
  const corner = Object.entries(front.hypervolume.reference);
  byId("notes").textContent =
    "Bars, brackets and the small figures are intervals; values without one are exact or their interval is not known. " +
    `Hypervolume ${number(front.hypervolume.value)} from the reference point ` +
    `${corner.map(([name, value]) => `${quantities[name]} ${number(value)}${shortUnit(name)}`).join(", ")}.`;
  setCost(state.cost);
  show().then(() => {
    plot.on("plotly_afterplot", placeLine);
    placeLine();
  });
})();
