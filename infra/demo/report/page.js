// Draws the figures with the theme's colours, and again when the theme or the width class changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");

  // a value such as "--stream" is the name of a CSS variable; what is no variable stays as it is
  const themed = (figure) => {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => (/^--[a-z0-9-]+$/.test(name) && css.getPropertyValue(name).trim()) || name;
    return JSON.parse(JSON.stringify(figure), (_, value) => (typeof value === "string" ? colour(value) : value));
  };

  const everySecond = (_, place) => place % 2 === 0;

  // smaller words, fewer ticks, "Asia/Kolkata" without "Asia/", the colour scale below
  const onPhone = (figure) => {
    const { xaxis, yaxis } = figure.layout;
    for (const axis of [xaxis, yaxis]) axis.tickfont.size = 10;
    if (figure.data.some((trace) => trace.mode === "text")) xaxis.range[1] *= 1.2;
    if (xaxis.ticktext?.length > 6) {
      xaxis.ticktext = xaxis.ticktext.filter(everySecond);
      xaxis.tickvals = xaxis.tickvals.filter(everySecond);
    }
    if (yaxis.type === "category") {
      yaxis.tickvals = figure.data[0].y;
      yaxis.ticktext = yaxis.tickvals.map((name) => name.split("/").pop());
    }
    for (const trace of figure.data) {
      if (trace.colorbar) {
        Object.assign(trace.colorbar, { orientation: "h", x: 0.5, xanchor: "center", y: -0.16, yanchor: "top", len: 0.9 });
        trace.colorbar.title.side = "bottom";
      }
    }
    return figure;
  };

  const draw = () => {
    for (const [name, figure] of Object.entries(figures)) {
      const { data, layout } = narrow.matches ? onPhone(themed(figure)) : themed(figure);
      Plotly.react(`plot-${name}`, data, layout, { responsive: true, displayModeBar: false });
    }
  };

  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  draw();
})();
