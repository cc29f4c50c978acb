// Draws the figures in the colours of the page, again when the system's scheme changes, and sorts tables.
(function () {
  "use strict";
  var small = window.matchMedia("(max-width: 40rem)");
  var coarse = window.matchMedia("(pointer: coarse)").matches;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function themed(layout) {
    var made = JSON.parse(JSON.stringify(layout));
    var faint = colour("faint"), grid = colour("grid"), ink = colour("ink");
    made.font = { color: ink, family: "system-ui, sans-serif", size: small.matches ? 11 : 12 };
    made.hoverlabel = { bgcolor: colour("panel"), bordercolor: faint, font: { color: ink } };
    made.modebar = { bgcolor: "rgba(0,0,0,0)", color: faint, activecolor: ink };
    // a finger scrolls the page; the buttons above a picture still zoom it
    if (coarse) { made.dragmode = false; }
    Object.keys(made).filter(function (key) { return /^[xy]axis\d*$/.test(key); }).forEach(function (key) {
      var axis = made[key];
      axis.automargin = true;
      axis.gridcolor = grid;
      axis.zeroline = false;
      axis.linecolor = faint;
      axis.tickcolor = faint;
      if (axis.showticklabels !== false) { axis.ticks = "outside"; }
    });
    (made.annotations || []).forEach(function (note) { note.bgcolor = colour("paper"); });
    return made;
  }

  // on a phone the legend has one entry a line: the picture grows by it; more than 14 scroll
  function grown(figure) {
    var entries = figure.data.concat(figure.layout.shapes || []).filter(function (item) {
      return item.showlegend !== false && item.name && (item.type !== "bar");
    }).length;
    return figure.layout.height + (small.matches && entries > 3 ? 20 * Math.min(entries, 14) : 0);
  }

  function draw() {
    document.querySelectorAll(".plot").forEach(function (place) {
      var figure = JSON.parse(place.nextElementSibling.textContent);
      figure.layout.height = grown(figure);
      figure.layout.legend = Object.assign({ maxheight: small.matches ? 300 : 0.5 }, figure.layout.legend);
      place.style.height = figure.layout.height + "px";
      var options = {
        responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"],
        // without these a button would offer to send the picture's data to the library's maker
        showSendToCloud: false, plotlyServerURL: "",
      };
      Plotly.react(place, figure.data, themed(figure.layout), options);
    });
  }

  function key(row, column) {
    var cell = row.cells[column].textContent.trim();
    var number = parseFloat(cell.replace(/,/g, ""));
    return /^[-+.\d]/.test(cell) && !isNaN(number) ? number : cell;
  }

  function order(a, b) {
    if (a === "" || b === "") { return (a === "") - (b === ""); }
    if (typeof a === "number" && typeof b === "number") { return a - b; }
    return String(a).localeCompare(String(b));
  }

  function sort(title) {
    var table = title.closest("table"), column = title.cellIndex, body = table.tBodies[0];
    var down = title.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.from(body.rows)
      .map(function (row) { return [key(row, column), row]; })
      .sort(function (a, b) {
        var empty = a[0] === "" || b[0] === "";
        return (down && !empty ? -1 : 1) * order(a[0], b[0]);
      })
      .forEach(function (pair) { body.appendChild(pair[1]); });
  }

  document.querySelectorAll("th button").forEach(function (button) {
    button.addEventListener("click", function () { sort(button.parentNode); });
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}());
