// Paint the layers of a placed chart on a canvas, by the colours of their roles.

/** The theme's colour of each role. */
export const ROLES = {
  main: "loss", second: "best", pinned: "rate", data: "validation", bad: "bad", quiet: "previous",
};
export const ROLE_COLORS = [...Object.values(ROLES), "grid", "muted", "text", "surface"];

const DASH = [6, 4];
const FILL = 0.2;

function trace(ctx, { x, y }, xs, ys) {
  ctx.beginPath();
  let drawing = false;
  for (let i = 0; i < xs.length; i++) {
    const [left, top] = [x.at(xs[i]), y.at(ys[i])];
    if (!Number.isFinite(left) || !Number.isFinite(top)) {
      drawing = false;
      continue;
    }
    if (drawing) ctx.lineTo(left, top);
    else ctx.moveTo(left, top);
    drawing = true;
  }
}

function stroke(ctx, color, width, dash = []) {
  ctx.strokeStyle = color;
  ctx.lineWidth = width;
  ctx.lineJoin = "round";
  ctx.setLineDash(dash);
  ctx.stroke();
  ctx.setLineDash([]);
}

function fillBetween(ctx, { x, y }, xs, low, high, color) {
  ctx.beginPath();
  for (let i = 0; i < xs.length; i++) ctx.lineTo(x.at(xs[i]), y.at(high[i]));
  for (let i = xs.length - 1; i >= 0; i--) ctx.lineTo(x.at(xs[i]), y.at(low[i]));
  ctx.globalAlpha = FILL;
  ctx.fillStyle = color;
  ctx.fill();
  ctx.globalAlpha = 1;
}

const PAINTERS = {
  line(ctx, placed, layer, color) {
    trace(ctx, placed, layer.x, layer.y);
    stroke(ctx, color, layer.role === "quiet" ? 0.9 : 1.75, layer.dashed ? DASH : []);
  },
  band(ctx, placed, layer, color) {
    fillBetween(ctx, placed, layer.x, layer.low, layer.high, color);
  },
  area(ctx, placed, layer, color) {
    const floor = Math.max(0, placed.chart.y_limits[0]);
    fillBetween(ctx, placed, layer.x, layer.y.map(() => floor), layer.y, color);
    trace(ctx, placed, layer.x, layer.y);
    stroke(ctx, color, 1.75);
  },
  steps(ctx, placed, layer, color) {
    const [xs, ys] = [[], []];
    layer.heights.forEach((height, i) => {
      xs.push(layer.edges[i], layer.edges[i + 1]);
      ys.push(height, height);
    });
    fillBetween(ctx, placed, xs, ys.map(() => 0), ys, color);
    trace(ctx, placed, xs, ys);
    stroke(ctx, color, 1.5);
  },
  points(ctx, { x, y }, layer, color) {
    ctx.fillStyle = color;
    ctx.globalAlpha = 0.6;
    for (let i = 0; i < layer.x.length; i++) {
      ctx.beginPath();
      ctx.arc(x.at(layer.x[i]), y.at(layer.y[i]), 2.5, 0, 2 * Math.PI);
      ctx.fill();
    }
    ctx.globalAlpha = 1;
  },
  bars(ctx, { x, y }, layer, color) {
    const wide = Math.max(0.7 * Math.abs(x.at(1) - x.at(0)), 1);
    ctx.fillStyle = color;
    layer.values.forEach((value, i) => {
      const middle = x.at(i + layer.beside);
      if (layer.low) {
        ctx.fillRect(middle - 1, y.at(layer.high[i]), 2, y.at(layer.low[i]) - y.at(layer.high[i]));
        ctx.beginPath();
        ctx.arc(middle, y.at(value), 3.5, 0, 2 * Math.PI);
        ctx.fill();
        return;
      }
      ctx.globalAlpha = 0.75;
      ctx.fillRect(middle - wide / 2, Math.min(y.at(value), y.at(0)), wide, Math.abs(y.at(value) - y.at(0)));
      ctx.globalAlpha = 1;
    });
  },
  rule(ctx, { x, y, box }, layer, color) {
    ctx.beginPath();
    if (layer.axis === "x") {
      ctx.moveTo(x.at(layer.at), box.top);
      ctx.lineTo(x.at(layer.at), box.bottom);
    } else {
      ctx.moveTo(box.left, y.at(layer.at));
      ctx.lineTo(box.right, y.at(layer.at));
    }
    stroke(ctx, color, 1.5, DASH);
  },
  cells(ctx, { x, y }, layer, _, colors) {
    const [rows, columns] = layer.shape;
    const [wide, high] = [Math.abs(x.at(1) - x.at(0)), Math.abs(y.at(1) - y.at(0))];
    const gap = Math.min(wide, high) > 5 ? 1 : 0;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const kind = layer.kinds[layer.values[row * columns + column]];
        if (!kind) continue;
        ctx.fillStyle = colors[ROLES[kind[1]]];
        ctx.fillRect(x.at(column - 0.5), y.at(row - 0.5), Math.max(wide - gap, 0.5), Math.max(high - gap, 0.5));
      }
    }
  },
};

function frame(ctx, { chart, x, y, xTicks, yTicks, box }, colors) {
  ctx.lineWidth = 1;
  ctx.strokeStyle = colors.grid;
  ctx.fillStyle = colors.muted;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  for (const [tick, label] of yTicks) {
    const at = Math.round(y.at(tick)) + 0.5;
    if (!chart.cells) {
      ctx.beginPath();
      ctx.moveTo(box.left, at);
      ctx.lineTo(box.right, at);
      ctx.stroke();
    }
    ctx.fillText(label, box.left - 8, at);
  }
  ctx.textBaseline = "top";
  ctx.textAlign = "center";
  for (const [tick, label] of xTicks) {
    const half = ctx.measureText(label).width / 2;
    ctx.fillText(label, Math.min(Math.max(x.at(tick), half), box.width - half), box.bottom + 10);
  }
  if (chart.x_label) ctx.fillText(chart.x_label, (box.left + box.right) / 2, box.bottom + 25);
}

/** Paint a placed chart; `colors` are those of the theme, `at` the pixel of the reader's pointer or null. */
export function paintChart(ctx, placed, colors, at) {
  const { chart, box } = placed;
  ctx.clearRect(0, 0, box.width, box.height);
  frame(ctx, placed, colors);
  ctx.save();
  ctx.beginPath();
  ctx.rect(box.left, box.top - 2, box.right - box.left + 2, box.bottom - box.top + 3);
  ctx.clip();
  for (const layer of chart.layers) PAINTERS[layer.kind](ctx, placed, layer, colors[ROLES[layer.role]], colors);
  ctx.restore();
  ctx.strokeStyle = colors.muted;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(box.left, box.bottom + 0.5);
  ctx.lineTo(box.right, box.bottom + 0.5);
  ctx.stroke();
  if (at !== null && !chart.cells) {
    ctx.beginPath();
    ctx.moveTo(Math.round(at) + 0.5, box.top);
    ctx.lineTo(Math.round(at) + 0.5, box.bottom);
    stroke(ctx, colors.muted, 1, [2, 3]);
  }
}
