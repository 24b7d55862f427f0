"use strict";
// The report of a predictor. Reads the JSON in #data; needs Plotly and elements.js.

(() => {
  const { plotLayout, AXIS, byId, element, number, escaped } = elements;
  const report = JSON.parse(byId("data").textContent);
  const { keys, predicted, lower, upper, measured, scores, stages, curve, quantity } = report;
  const percent = (share) => `${number(100 * share)} %`;
  const BLUE = "#1f6fb4", BAND = "rgba(31,111,180,0.2)";
  const SETTINGS = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

  function drawFit() {
    const ends = [Math.min(...measured, ...predicted), Math.max(...measured, ...predicted)];
    const text = keys.map((key, i) => `<b>${escaped(key)}</b><br>measured ${number(measured[i])}<br>` +
      `predicted ${number(predicted[i])}, ${number(lower[i])} to ${number(upper[i])}`);
    return Plotly.react(byId("fit"), [
      { name: "exact", x: ends, y: ends, mode: "lines", line: { color: "#8a97a3", dash: "dot" }, hoverinfo: "skip" },
      {
        name: "networks, 90 % interval", x: measured, y: predicted, mode: "markers", text,
        hovertemplate: "%{text}<extra></extra>", marker: { color: BLUE, size: 7 },
        error_y: {
          type: "data", symmetric: false, array: upper.map((end, i) => end - predicted[i]),
          arrayminus: lower.map((end, i) => predicted[i] - end), color: "rgba(31,111,180,0.35)", thickness: 1.2, width: 0,
        },
      },
    ], {
      ...plotLayout(),
      xaxis: { ...AXIS, type: "log", title: { text: `measured ${quantity}` } },
      yaxis: { ...AXIS, type: "log", title: { text: `predicted ${quantity}` } },
    }, SETTINGS);
  }

  function drawStages() {
    const shown = [...stages].reverse();
    return Plotly.react(byId("stages"), [{
      type: "bar", orientation: "h", y: shown.map(({ stage }) => stage), x: shown.map((s) => 100 * s.explained),
      marker: { color: BLUE }, hovertemplate: "%{y}: %{x:.1f} %<extra></extra>",
    }], {
      ...plotLayout(),
      xaxis: { ...AXIS, range: [0, 100], title: { text: "variance of the errors that follow the stage's choices (%)" } },
      yaxis: { ...AXIS, type: "category", automargin: true },
    }, SETTINGS);
  }

  function drawChoices(name) {
    const shown = [...stages.find(({ stage }) => stage === name).choices].reverse();
    return Plotly.react(byId("choices"), [{
      mode: "markers", y: shown.map(({ choice }) => choice), x: shown.map(({ ratio }) => ratio),
      text: shown.map(({ rows }) => `${rows} networks`), marker: { color: BLUE, size: 9 },
      hovertemplate: "%{y}: %{x:.3f}, %{text}<extra></extra>",
      error_x: {
        type: "data", symmetric: false, array: shown.map((c) => c.upper - c.ratio),
        arrayminus: shown.map((c) => c.ratio - c.lower), color: "rgba(31,111,180,0.45)", thickness: 1.2,
      },
    }], {
      ...plotLayout(),
      xaxis: { ...AXIS, title: { text: "measured over predicted, 95 % interval of the mean" } },
      yaxis: { ...AXIS, type: "category", automargin: true },
      shapes: [{ type: "line", x0: 1, x1: 1, y0: 0, y1: 1, yref: "paper", line: { color: "#8a97a3", dash: "dot" } }],
    }, SETTINGS);
  }

  function drawCurve() {
    byId("learning").hidden = curve.length === 0;
    if (!curve.length) return null;
    const rows = curve.map((step) => step.rows);
    const line = (name, values, rest) => ({ name, x: rows, y: values.map((value) => 100 * value), ...rest });
    return Plotly.react(byId("curve"), [
      line("", curve.map((s) => s.error_upper), { mode: "lines", line: { width: 0 }, showlegend: false, hoverinfo: "skip" }),
      line("its 95 % interval", curve.map((s) => s.error_lower),
        { mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: BAND, hoverinfo: "skip" }),
      line("expected error", curve.map((s) => s.error),
        { mode: "lines+markers", line: { color: BLUE }, hovertemplate: "%{x} networks: %{y:.2f} %<extra></extra>" }),
    ], {
      ...plotLayout(),
      xaxis: { ...AXIS, title: { text: "networks measured" } },
      yaxis: { ...AXIS, rangemode: "tozero", title: { text: "mean error (%)" } },
    }, SETTINGS);
  }

  byId("summary").textContent = `${number(scores.rows)} networks that were measured and predicted`;
  byId("best").replaceChildren(
    element("p", {}, [
      element("strong", { text: `${percent(scores.within_10)} within 10 %` }),
      `, mean error ${percent(scores.mape)}, Spearman ${number(scores.spearman)}, ` +
        `${percent(scores.coverage)} in their 90 % interval.`,
    ]),
    element("p", { text: report.drift ? `No longer matches the device: ${report.drift}.` : "No drift of the device seen." }),
  );
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("stage").append(...stages.map(({ stage }) => element("option", { value: stage, text: stage })));
  byId("stage").addEventListener("change", (event) => drawChoices(event.target.value));
  byId("notes").textContent =
    "Where errors follow a stage's choices, the predictor does not know something about that stage: measure more of its " +
    "variants. Choices of fewer than 3 networks are not shown.";
  drawFit();
  drawStages();
  if (stages.length) drawChoices(stages[0].stage);
  drawCurve();
})();
