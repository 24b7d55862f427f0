"use strict";
// What the pages share: elements, numbers in words, commands to copy.

const elements = (() => {
  const FONT = 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
  const AXIS = { gridcolor: "#e8edf1", linecolor: "#aeb9c4", showline: true, zeroline: false, ticks: "outside" };
  // A new one each time: Plotly keeps what it is given, and may write into it.
  const plotLayout = () => ({
    margin: { l: 78, r: 24, t: 46, b: 66 },
    paper_bgcolor: "white",
    plot_bgcolor: "white",
    font: { family: FONT, size: 13, color: "#1b2733" },
    hovermode: "closest",
    hoverlabel: { bgcolor: "white", bordercolor: "#1f6fb4", align: "left", font: { color: "#1b2733", family: FONT } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
  });

  function byId(id) {
    return document.getElementById(id);
  }

  function element(tag, { text, className, ...rest } = {}, children = []) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    Object.assign(made, rest);
    made.append(...children);
    return made;
  }

  function number(value) {
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  }

  const interval = (v) => (v.lower === null ? "" : `${number(v.lower)} to ${number(v.upper)}`);

  // Plotly reads a little HTML in hover texts.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function copyButton(text) {
    const button = element("button", { text: "copy", type: "button", title: text });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
      } catch {
        window.prompt("Copy this command:", text); // a browser that lets no page write to the clipboard
      }
      setTimeout(() => (button.textContent = "copy"), 1500);
    });
    return button;
  }

  function breakable(text) {
    return element("code", {}, text.split(/(?<=,)/).flatMap((token) => [token, element("wbr")]));
  }

  return { plotLayout, AXIS, byId, element, number, interval, escaped, copyButton, breakable };
})();
