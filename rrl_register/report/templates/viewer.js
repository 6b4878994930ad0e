
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  function setUpCopying() {
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.hidden = !navigator.clipboard;
      button.addEventListener("click", async () => {
        const text = byId(button.dataset.copy).textContent;
        const done = await navigator.clipboard.writeText(text).then(() => true, () => false);
        button.textContent = done ? "Copied" : "Not copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
    }
  }

  const [OUTLIER, INCONSISTENT, REJECTED] = [-1, -2, -3];
  const STATES = { [OUTLIER]: ", outlier", [INCONSISTENT]: ", failed forward-backward check", [REJECTED]: ", rejected by the network" };

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  class Viewer {
    constructor(data) {
      this.data = data;
      this.root = byId("viewer");
      this.canvas = byId("stage");
      this.pen = this.canvas.getContext("2d");
      this.fixed = byId("image-fixed");
      this.aligned = byId("image-aligned");
      this.mode = "swipe";
      this.swipe = 0.5;
      this.checks = 8;
      this.showsAligned = false;
      this.zoom = 1;
      this.centre = [data.width / 2, data.height / 2];
      this.pointers = new Map();
      this.queued = false;
      this.timer = 0;
    }

    start() {
      this.root.hidden = false;
      this.readColours();
      this.connectControls();
      this.connectPointers();
      this.connectKeys();
      new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.readColours(); this.redraw(); });
      for (const image of [this.fixed, this.aligned]) image.decode().then(() => this.redraw(), () => this.redraw());
      this.resize();
    }

    readColours() {
      const style = getComputedStyle(document.documentElement);
      const read = (name) => style.getPropertyValue(name).trim();
      this.colours = [0, 1, 2, 3, 4].map((level) => read(`--level-${level}`));
      this.ground = read("--stage");
    }

    resize() {
      const box = this.canvas.parentElement.clientWidth;
      const { width, height } = this.data;
      const tall = clamp(Math.round((box * height) / width), 180, Math.max(240, Math.round(innerHeight * 0.78)));
      this.ratio = devicePixelRatio || 1;
      this.width = box;
      this.height = tall;
      this.canvas.style.height = `${tall}px`;
      this.canvas.width = Math.round(box * this.ratio);
      this.canvas.height = Math.round(tall * this.ratio);
      this.fitted = Math.min(box / width, tall / height);
      this.redraw();
    }

    /* Screen px per px of the picture, and where its top-left corner lies. */
    get scale() { return this.fitted * this.zoom; }
    get origin() {
      return [this.width / 2 - this.centre[0] * this.scale, this.height / 2 - this.centre[1] * this.scale];
    }

    setZoom(zoom, at = [this.width / 2, this.height / 2]) {
      const before = this.origin.map((start, axis) => (at[axis] - start) / this.scale);
      this.zoom = clamp(zoom, 1, Math.max(8, 12 / this.fitted));
      this.centre = before.map((place, axis) => place - (at[axis] - [this.width, this.height][axis] / 2) / this.scale);
      this.keepInside();
      this.redraw();
    }

    pan(dx, dy) {
      this.centre = [this.centre[0] - dx / this.scale, this.centre[1] - dy / this.scale];
      this.keepInside();
      this.redraw();
    }

    keepInside() {
      const sides = [[this.width, this.data.width], [this.height, this.data.height]];
      this.centre = this.centre.map((place, axis) => {
        const [screen, picture] = sides[axis];
        const half = screen / this.scale / 2;
        return half * 2 >= picture ? picture / 2 : clamp(place, half, picture - half);
      });
    }

    redraw() {
      if (this.queued) return;
      this.queued = true;
      requestAnimationFrame(() => { this.queued = false; this.draw(); });
    }

    draw() {
      const { pen, ratio } = this;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.fillStyle = this.ground;
      pen.fillRect(0, 0, this.width, this.height);
      pen.imageSmoothingEnabled = this.scale < 3;
      pen.imageSmoothingQuality = "high";
      const layers = { swipe: () => this.drawSwipe(), flicker: () => this.drawOne(), checks: () => this.drawChecks() };
      layers[this.mode]();
      this.drawPoints();
      if (byId("arrows").checked) this.drawArrows();
      this.report();
    }

    paste(image) {
      const [x, y] = this.origin;
      this.pen.drawImage(image, x, y, this.data.width * this.scale, this.data.height * this.scale);
    }

    drawSwipe() {
      const [x] = this.origin;
      const at = clamp(x, 0, this.width) + this.swipe * (clamp(x + this.data.width * this.scale, 0, this.width) - clamp(x, 0, this.width));
      this.line = at;
      this.pen.save();
      this.clip(0, at);
      this.paste(this.fixed);
      this.pen.restore();
      this.pen.save();
      this.clip(at, this.width);
      this.paste(this.aligned);
      this.pen.restore();
      this.drawHandle(at);
    }

    clip(from, to) {
      this.pen.beginPath();
      this.pen.rect(from, 0, to - from, this.height);
      this.pen.clip();
    }

    drawHandle(at) {
      const { pen } = this;
      const middle = this.height / 2;
      pen.fillStyle = "#fff";
      pen.shadowColor = "#000a";
      pen.shadowBlur = 5;
      pen.fillRect(at - 1, 0, 2, this.height);
      pen.beginPath();
      pen.arc(at, middle, 15, 0, 7);
      pen.fill();
      pen.shadowBlur = 0;
      pen.strokeStyle = "#23282c";
      pen.lineWidth = 2;
      pen.beginPath();
      for (const side of [-1, 1]) {
        pen.moveTo(at + side * 4, middle - 5);
        pen.lineTo(at + side * 9, middle);
        pen.lineTo(at + side * 4, middle + 5);
      }
      pen.stroke();
    }

    drawOne() { this.paste(this.showsAligned ? this.aligned : this.fixed); }

    drawChecks() {
      const { pen, data, scale } = this;
      const [x, y] = this.origin;
      const side = (Math.max(data.width, data.height) / this.checks) * scale;
      this.paste(this.fixed);
      pen.save();
      pen.beginPath();
      for (let row = 0; row * side < data.height * scale; row += 1) {
        for (let column = 1 - (row % 2); column * side < data.width * scale; column += 2) {
          pen.rect(x + column * side, y + row * side, side, side);
        }
      }
      pen.clip();
      pen.fillStyle = this.ground;
      pen.fillRect(0, 0, this.width, this.height);
      this.paste(this.aligned);
      pen.restore();
    }

    place(point) {
      const [x, y] = this.origin;
      return [x + point[0] * this.scale, y + point[1] * this.scale];
    }

    get radius() { return clamp(1.6 + 1.3 * Math.sqrt(this.zoom), 3, 7); }

    /* Points that are drawn: [x, y, residual along x and y, state, score]. */
    get drawn() {
      const rejected = byId("rejected")?.checked;
      return this.data.points.filter((point) => (point[4] === REJECTED ? rejected : byId("points").checked));
    }

    drawPoints() {
      for (const point of this.drawn) this.drawPoint(...this.place(point), point[4], point[5] === null);
    }

    /* Discs are scored inliers, squares unscored ones; hollow: outliers; crosses failed the forward-backward check. */
    drawPoint(x, y, state, unscored) {
      const { pen } = this;
      const radius = state === REJECTED ? 1.5 : this.radius;
      pen.beginPath();
      if (state === INCONSISTENT) {
        for (const side of [-1, 1]) {
          pen.moveTo(x - radius, y - side * radius);
          pen.lineTo(x + radius, y + side * radius);
        }
      } else if (unscored) pen.rect(x - radius * 0.85, y - radius * 0.85, radius * 1.7, radius * 1.7);
      else pen.arc(x, y, radius, 0, 7);
      pen.lineWidth = 1;
      pen.strokeStyle = "#000b";
      if (state >= 0 || state === REJECTED) {
        pen.fillStyle = state >= 0 ? this.colours[state] : "#fff";
        pen.fill();
      } else {
        pen.strokeStyle = "#000";
        pen.lineWidth = 3;
        pen.stroke();
        pen.strokeStyle = "#fff";
        pen.lineWidth = 1.4;
      }
      pen.stroke();
    }

    drawArrows() {
      const times = (Number(byId("enlarge").value) / this.data.factor) * this.scale;
      for (const point of this.data.points) {
        if (point[4] < 0 || point[2] === null) continue;
        const [x, y] = this.place(point);
        this.drawArrow(x, y, point[2] * times, point[3] * times, this.colours[point[4]]);
      }
    }

    drawArrow(x, y, dx, dy, colour) {
      const { pen } = this;
      const length = Math.hypot(dx, dy);
      const head = Math.min(6, length * 0.6);
      const [ux, uy] = length ? [dx / length, dy / length] : [0, 0];
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x + dx, y + dy);
      pen.lineTo(x + dx - head * (ux + 0.55 * uy), y + dy - head * (uy - 0.55 * ux));
      pen.moveTo(x + dx, y + dy);
      pen.lineTo(x + dx - head * (ux - 0.55 * uy), y + dy - head * (uy + 0.55 * ux));
      pen.strokeStyle = "#000b";
      pen.lineWidth = 3.4;
      pen.stroke();
      pen.strokeStyle = colour;
      pen.lineWidth = 1.6;
      pen.stroke();
    }

    /* Shows the state on the page, for assistive technology and tests. */
    report() {
      const shown = this.scale / this.data.factor;
      Object.assign(this.root.dataset, {
        mode: this.mode, swipe: this.swipe.toFixed(3), shown: this.showsAligned ? "aligned" : "fixed",
        zoom: this.zoom.toFixed(3), checks: String(this.checks),
      });
      byId("zoom").value = `${Math.round(100 * shown)}%`;
      this.canvas.classList.toggle("zoomed", this.zoom > 1);
      const [left, right] = this.root.querySelectorAll(".tag");
      const names = {
        swipe: ["fixed", "aligned"], flicker: [this.showsAligned ? "aligned" : "fixed", ""], checks: ["first square: fixed", ""],
      }[this.mode];
      [left.textContent, right.textContent] = names;
      this.showArrowScale();
    }

    showArrowScale() {
      const scale = byId("arrow-scale");
      scale.hidden = !byId("arrows").checked;
      const long = (90 * this.data.factor) / (Number(byId("enlarge").value) * this.scale);
      scale.lastElementChild.textContent = `${Number(long.toPrecision(2))} px`;
    }

    setMode(mode) {
      this.mode = mode;
      for (const control of this.root.querySelectorAll("[data-for]")) control.hidden = control.dataset.for !== mode;
      this.setPlaying(mode === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches);
      this.redraw();
    }

    setPlaying(playing) {
      clearInterval(this.timer);
      this.timer = playing ? setInterval(() => this.flip(), 700) : 0;
      byId("play").textContent = playing ? "Pause" : "Play";
      byId("play").setAttribute("aria-pressed", String(playing));
    }

    flip() {
      this.showsAligned = !this.showsAligned;
      this.redraw();
    }

    setSwipe(share) {
      this.swipe = clamp(share, 0, 1);
      byId("swipe").value = String(Math.round(100 * this.swipe));
      this.redraw();
    }

    setChecks(number) {
      this.checks = clamp(number, 2, 24);
      byId("checks").value = String(this.checks);
      this.redraw();
    }

    connectControls() {
      const on = (id, event, action) => byId(id).addEventListener(event, action);
      for (const radio of this.root.querySelectorAll("[name=mode]")) {
        radio.addEventListener("change", () => this.setMode(radio.value));
      }
      on("swipe", "input", () => this.setSwipe(Number(byId("swipe").value) / 100));
      on("checks", "input", () => this.setChecks(Number(byId("checks").value)));
      on("play", "click", () => this.setPlaying(!this.timer));
      on("flip", "click", () => { this.setPlaying(false); this.flip(); });
      on("zoom-in", "click", () => this.setZoom(this.zoom * 1.5));
      on("zoom-out", "click", () => this.setZoom(this.zoom / 1.5));
      on("fit", "click", () => this.setZoom(1));
      for (const id of ["points", "arrows", "enlarge"]) on(id, "change", () => this.redraw());
      byId("rejected")?.addEventListener("change", () => this.redraw());
    }

    connectPointers() {
      const { canvas } = this;
      canvas.addEventListener("pointerdown", (event) => this.press(event));
      canvas.addEventListener("pointermove", (event) => this.move(event));
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.release(event));
      canvas.addEventListener("pointerleave", () => { byId("tip").hidden = true; });
      canvas.addEventListener("dblclick", (event) => this.setZoom(this.zoom * 2, this.at(event)));
      canvas.addEventListener("wheel", (event) => {
        if (!(event.ctrlKey || event.metaKey)) return;
        event.preventDefault();
        this.setZoom(this.zoom * Math.exp(-event.deltaY / 300), this.at(event));
      }, { passive: false });
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    press(event) {
      const at = this.at(event);
      this.pointers.set(event.pointerId, at);
      this.canvas.setPointerCapture(event.pointerId);
      const swipes = this.mode === "swipe" && (this.zoom === 1 || Math.abs(at[0] - this.line) < 24);
      this.drag = swipes ? "swipe" : "pan";
      this.canvas.classList.toggle("dragging", this.drag === "pan" && this.zoom > 1);
      if (swipes) this.swipeTo(at[0]);
    }

    move(event) {
      const at = this.at(event);
      const before = this.pointers.get(event.pointerId);
      if (!before) { this.point(at); return; }
      if (this.pointers.size === 2) this.pinch(event.pointerId, at);
      else if (this.drag === "swipe") this.swipeTo(at[0]);
      else this.pan(at[0] - before[0], at[1] - before[1]);
      this.pointers.set(event.pointerId, at);
    }

    pinch(id, at) {
      const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, place]) => place);
      const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      const middle = [(at[0] + other[0]) / 2, (at[1] + other[1]) / 2];
      this.setZoom((this.zoom * apart(at)) / Math.max(1, apart(this.pointers.get(id))), middle);
    }

    release(event) {
      this.pointers.delete(event.pointerId);
      this.canvas.classList.remove("dragging");
    }

    swipeTo(x) {
      const [left] = this.origin;
      const from = clamp(left, 0, this.width);
      const to = clamp(left + this.data.width * this.scale, 0, this.width);
      this.setSwipe((x - from) / Math.max(1, to - from));
    }

    /* Describes the point under the pointer. */
    point(at) {
      const tip = byId("tip");
      const near = this.nearest(at, this.radius + 5);
      tip.hidden = !near;
      if (!near) return;
      const [x, y] = [near[0], near[1]].map((place) => (place * this.data.factor - 0.5).toFixed(1));
      const residual = near[2] === null ? "" : `, residual ${Math.hypot(near[2], near[3]).toFixed(2)} px`;
      const score = near[5] === null ? "unscored" : `score ${near[5].toFixed(2)}`;
      tip.textContent = `(${x}, ${y})${residual}, ${score}${STATES[near[4]] ?? ""}`;
      tip.style.left = `${clamp(at[0] + 14, 0, Math.max(0, this.width - tip.offsetWidth))}px`;
      tip.style.top = `${at[1] + (at[1] > this.height - 50 ? -34 : 14)}px`;
    }

    nearest(at, within) {
      let best = null;
      let distance = within;
      for (const point of this.drawn) {
        const [x, y] = this.place(point);
        const length = Math.hypot(x - at[0], y - at[1]);
        if (length < distance) [best, distance] = [point, length];
      }
      return best;
    }

    connectKeys() {
      this.canvas.addEventListener("keydown", (event) => {
        const action = this.action(event);
        if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        action();
      });
    }

    action(event) {
      const sides = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const side = sides[event.key];
      if (side && event.shiftKey) return () => this.pan(-60 * side[0], -60 * side[1]);
      if (side && side[0]) {
        return { swipe: () => this.setSwipe(this.swipe + 0.02 * side[0]), flicker: () => { this.setPlaying(false); this.flip(); },
          checks: () => this.setChecks(this.checks + side[0]) }[this.mode];
      }
      if (event.key === " " && this.mode === "flicker") return () => this.setPlaying(!this.timer);
      return { "+": () => this.setZoom(this.zoom * 1.5), "=": () => this.setZoom(this.zoom * 1.5),
        "-": () => this.setZoom(this.zoom / 1.5), "0": () => this.setZoom(1) }[event.key];
    }
  }

  setUpCopying();
  const data = byId("data");
  if (data) new Viewer(JSON.parse(data.textContent)).start();
})();
