"use strict";
// The page of a fleet: regret against the number of networks. Reads the JSON in #data; needs Plotly and elements.js.

(() => {
  const { plotLayout, AXIS, byId, element, number, interval, escaped, copyButton, breakable } = elements;
  const { plan, budgets, finish } = JSON.parse(byId("data").textContent);
  const { devices, networks, evaluated, enough } = plan;
  const fleets = new Map(plan.fleets.map((fleet) => [fleet.allowed, fleet]));
  const sizes = [...fleets.keys()];
  const plot = byId("plot");
  const accuracy = (key) => networks[key].values.accuracy;
  const own = fleets.get(devices.length).assigned;
  const state = { size: enough };

  const spread = (fleet) => (fleet.regret_error === null ? "" : ` ± ${number(fleet.regret_error)}`);
  const judged = (fleet) => fleet.within_error ? "within its error" : "more than its error explains";
  const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

  function hoverText(fleet) {
    const parts = fleet.models.map((key) => {
      const served = devices.filter(({ name }) => fleet.assigned[name] === key).map(({ name }) => name);
      return `${escaped(key)}: ${escaped(served.join(", "))}`;
    });
    return [`<b>regret ${number(fleet.regret)}${spread(fleet)}</b>, ${judged(fleet)}`, ...parts].join("<br>");
  }

  function trace(name, chosen, rest) {
    const shown = chosen.map((size) => fleets.get(size));
    return {
      name, x: chosen, y: shown.map((fleet) => fleet.regret), type: "scatter", mode: "markers",
      text: shown.map(hoverText), hovertemplate: "%{text}<extra></extra>", ...rest,
    };
  }

  function draw() {
    const errors = sizes.map((size) => fleets.get(size).regret_error ?? 0);
    const traces = [
      trace("best fleet", sizes, {
        mode: "lines+markers",
        line: { width: 1.5, color: "#1f6fb4" },
        marker: { size: 10, color: "#1f6fb4", line: { width: 1, color: "white" } },
        error_y: { type: "data", array: errors, visible: errors.some((error) => error > 0),
          color: "rgba(31,111,180,0.45)", thickness: 1.2, width: 3 },
      }),
      trace("fewest within the error", [enough], {
        marker: { symbol: "star", size: 18, color: "#f5b301", line: { width: 1.2, color: "#7a5200" } },
      }),
      trace("shown below", [state.size], {
        marker: { symbol: "circle-open", size: 25, color: "#d9480f", line: { width: 3 } }, hoverinfo: "skip",
        hovertemplate: null,
      }),
    ];
    return Plotly.react(plot, traces, {
      ...plotLayout(),
      xaxis: { ...AXIS, title: { text: "networks to maintain" }, dtick: 1, range: [0.6, devices.length + 0.4] },
      yaxis: { ...AXIS, title: { text: "regret (accuracy lost, share-weighted)" }, rangemode: "tozero" },
    }, { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
  }

  function showBest(fleet) {
    const command = `${finish} ${fleet.models.join(" ")}`;
    byId("best").replaceChildren(
      element("p", {}, [
        `${counted(fleet.models.length, "network")} for ${counted(devices.length, "device")}: `,
        element("strong", { text: `accuracy ${number(fleet.accuracy)}` }),
        `, regret ${number(fleet.regret)}${spread(fleet)}, ${judged(fleet)}.`,
      ]),
      element("div", { className: "command" }, [element("code", { text: command }), copyButton(command)]),
    );
  }

  function showTable(fleet) {
    const rows = devices.map(({ name, share }, place) => {
      const key = fleet.assigned[name];
      const kept = budgets[place].map((budget) => {
        const value = networks[key].values[budget.name];
        const unsure = value.upper !== null && (budget.at_most ? value.upper > budget.bound : value.lower < budget.bound);
        const notes = [value.source, interval(value), unsure ? "part of it beyond the budget" : ""].filter(Boolean);
        return element("div", { text: `${number(value.value)} for ${budget.text}` },
          [element("small", { text: notes.join(", ") })]);
      });
      const lost = accuracy(own[name]).value - accuracy(key).value;
      return element("tr", {}, [
        element("td", { text: name }, [element("small", { text: `share ${number(share)}` })]),
        element("td", {}, kept),
        element("td", { className: "network" }, [breakable(networks[key].text), element("small", { text: key })]),
        element("td", { className: "number", text: number(accuracy(key).value) },
          [element("small", { text: interval(accuracy(key)) })]),
        element("td", { className: "number", text: number(lost) }),
      ]);
    });
    const heads = ["device", "budgets", "network", "accuracy", "loses against its own best"];
    byId("table").replaceChildren(
      element("thead", {}, [element("tr", {}, heads.map((text, place) =>
        element("th", { text, className: place > 2 ? "number" : "" })))]),
      element("tbody", {}, rows),
    );
  }

  function show(size) {
    state.size = size;
    byId("size").value = size;
    const fleet = fleets.get(size);
    showBest(fleet);
    showTable(fleet);
    return draw();
  }

  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("size").append(...sizes.map((size) => element("option", { value: size, text: size })));
  byId("size").addEventListener("change", (event) => show(Number(event.target.value)));
  byId("summary").textContent =
    `${number(evaluated)} networks evaluated · ${devices.map(({ name }) => name).join(", ")}`;
  const notes = [
    "Regret is what devices lose, in the mean weighted by their shares, against a network of their own; bars are the " +
      "95 % interval that follows from the intervals of the accuracies.",
  ];
  if (plan.least > 1) notes.push(`Fewer than ${plan.least} networks cannot keep the budgets of all devices.`);
  byId("notes").textContent = notes.join(" ");
  show(state.size).then(() => {
    plot.on("plotly_click", ({ points }) => show(points[0].x));
  });
})();
