// Plots of a run, drawn again by uPlot: with values under the pointer, and renewed when a sample was taken.
(() => {
  const place = document.getElementById("plots");
  if (!place || !window.uPlot) return;
  const short = (unit) => (_, value) => value == null ? "–"
    : new Intl.NumberFormat("en", { notation: "compact" }).format(unit === " %" ? value * 100 : value) + unit;
  let found, drawn = [];
  const draw = () => {
    if (!found?.plots.length) return;
    const look = getComputedStyle(document.documentElement);
    const colour = (name) => look.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    drawn.forEach((one) => one.destroy());
    const figures = found.plots.map(({ name }) => {
      const figure = document.createElement("figure");
      figure.className = "plot";
      figure.appendChild(document.createElement("figcaption")).textContent = name;
      return figure;
    });
    place.replaceChildren(...figures);
    drawn = found.plots.map(({ lines, unit }, at) => new uPlot({
      width: figures[at].clientWidth,
      height: 170,
      scales: { y: { range: (_, low, high) => [0, unit === " %" ? 1 : high * 1.05 || 1] } },
      // The newest values, where nothing is under the pointer.
      hooks: { setLegend: [(one) => one.legend.idx == null && one.setLegend({ idx: found.at.length - 1 }, false)] },
      axes: [{ ...axis, space: 60, size: 30, values: "{HH}:{mm}:{ss}" }, { ...axis, size: 56, values: (_, all) => all.map((one) => short(unit)(0, one)) }],
      series: [{ label: "at", value: "{HH}:{mm}:{ss}" }, ...lines.map(({ name }, index) => ({
        label: name || "now",
        stroke: colour(["link", "good", "wait", "text", "dim"][index % 5]),
        dash: index ? [2 * index + 2, 3] : [],
        points: { show: false },
        value: short(unit),
      }))],
    }, [found.at, ...lines.map((one) => one.values)], figures[at]));
  };
  const load = async () => {
    const answer = await fetch(place.dataset.from).catch(() => ({}));
    if (answer.ok) draw(found = await answer.json());
  };
  load();
  document.addEventListener("samples", load);
  addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
