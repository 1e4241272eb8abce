// One message as DOM: what the person said, or an answer with what was done for it.
import { button, duration, fill, fragment, icon, make, morph, time } from "./dom.js";

const STATES = { todo: "○", doing: "●", done: "✓", failed: "✕" };

export function planList(items, words) {
  const list = make("ol", "plan");
  for (const item of items) {
    const state = item.state in STATES ? item.state : "todo";
    const row = make("li", `plan-item ${state}`);
    row.append(make("span", "mark", STATES[state], { "aria-hidden": "true" }), make("span", "sr", words[`plan_${state}`]), make("span", "", item.text));
    list.append(row);
  }
  return list;
}

export function recalledChip(items, words) {
  const chip = make("details", "recalled");
  const summary = make("summary", "chip", fill(words.recalled, { n: items.length }));
  const list = make("ul");
  for (const item of items) {
    const row = make("li");
    row.append(make("span", "", item.text));
    const from = make("span", "faint small");
    if (item.at) from.append(time(item.at, "exact"), " · ");
    if (item.href) from.append(make("a", "", words.recalled_source, { href: item.href }));
    else from.append(item.from || words.recalled_kept);
    row.append(make("br"), from);
    list.append(row);
  }
  chip.append(summary, list);
  return chip;
}

export function toolLine(step, words, onOpen) {
  const line = make("details", `tool ${step.state}`, "", { "data-step": step.id });
  const summary = make("summary");
  const mark = step.state === "run" ? make("span", "spin", "", { "aria-hidden": "true" }) : icon(step.state === "ok" ? "check" : "x", step.state);
  summary.append(mark, make("span", "sr", words[`tool_${step.state}`]), make("span", "name", step.label), make("span", "for cut", step.what));
  summary.append(make("span", "ms", duration(step.ms)));
  line.append(summary);
  const inside = make("div", "inside");
  line.append(inside);
  if (step.args !== undefined) fillTool(line, step, words);
  line.addEventListener("toggle", () => { if (line.open && !inside.childElementCount) onOpen(line); });
  return line;
}

export function fillTool(line, step, words) {
  const inside = line.querySelector(".inside");
  inside.replaceChildren();
  for (const [title, text] of [[words.tool_args, step.args], [words.tool_result, step.result]]) {
    if (!text) continue;
    const pre = make("pre", "", text, { tabindex: "0" });
    inside.append(make("div", "faint small", title), pre);
  }
  if (!inside.childElementCount) inside.append(make("div", "faint small", words.tool_nothing));
}

export class Message {
  // `host` gives words, lang and act(do, data).
  constructor(view, host) {
    this.host = host;
    this.settled = 0;
    this.tail = "";
    this.seq = -1;
    this.el = make("article", view.mine ? "msg mine" : "msg answer", "", { "data-key": view.key });
    this.update(view);
  }

  update(view) {
    this.view = { ...this.view, ...view };
    if (this.view.mine) this.drawMine(); else this.drawAnswer();
  }

  // ---- what the person said

  drawMine() {
    const { view, host: { words } } = this;
    const bubble = make("div", "bubble", view.text);
    if (view.parts?.length) {
      const files = make("div", "files");
      for (const part of view.parts) files.append(make("span", "tag ic ic-file", part.name));
      bubble.prepend(files);
    }
    const under = make("div", "under");
    if (view.state && view.state !== "sent") under.append(make("span", `state ${view.state}`, words[`message_${view.state}`]));
    else under.append(time(view.at, "ago"));
    this.el.replaceChildren(make("span", "sr", words.you), bubble, under);
    this.el.classList.toggle("pending", view.state === "sending");
  }

  // ---- an answer

  drawAnswer() {
    const { view, el, host: { words } } = this;
    if (!this.text) {
      this.recalled = make("div", "recall-slot");
      this.plan = make("div", "plan-slot");
      this.tools = make("div", "tools");
      this.text = make("div", "text prose");
      this.ask = make("div");
      this.failure = make("div");
      this.under = make("div", "under");
      el.append(make("span", "sr", words.assistant), this.recalled, this.plan, this.tools, this.text, this.ask, this.failure, this.under);
    }
    el.classList.toggle("running", Boolean(view.running));
    el.setAttribute("aria-busy", String(Boolean(view.running)));
    if (view.recalled) this.recalled.replaceChildren(...(view.recalled.length ? [recalledChip(view.recalled, words)] : []));
    if (view.plan) this.plan.replaceChildren(...(view.plan.length ? [planList(view.plan, words)] : []));
    if (view.steps) this.drawTools();
    if (view.html !== undefined) this.whole(view.html);
    this.drawAsk();
    this.drawFailure();
    this.drawUnder();
  }

  // An act that waits for a word: exactly what it is, and two buttons.
  drawAsk() {
    const { view: { ask }, host: { words, act } } = this;
    if (!ask) return this.ask.replaceChildren();
    const box = make("div", "ask", "", { role: "group", "aria-label": words.ask });
    const head = make("div", "ask-head");
    head.append(make("b", "", words.ask), make("span", "tag", ask.label));
    box.append(head, make("pre", "", ask.act, { tabindex: "0" }));
    const acts = make("div", "acts");
    if (ask.may) {
      for (const [yes, text, css] of [[true, words.ask_yes, "pri"], [false, words.ask_no, ""]]) {
        acts.append(button(`btn ${css}`, text, "", (e) => {
          for (const one of e.currentTarget.parentElement.children) one.disabled = true;
          act("decide", { id: ask.id, yes });
        }));
      }
    } else acts.append(make("span", "muted small", words.ask_other));
    box.append(acts);
    this.ask.replaceChildren(box);
  }

  whole(html) {
    morph(this.text, fragment(html));
    this.settled = this.text.childNodes.length;
    this.tail = "";
    this.decorate();
  }

  // A patch of streamed text; false if it does not follow what is here.
  grow({ seq, settled, keep, tail, fresh }) {
    if (fresh) { this.settled = 0; this.tail = ""; }
    else if (seq !== this.seq + 1) return false;
    this.seq = seq;
    const html = (settled ? "" : this.tail.slice(0, keep)) + tail;
    const blocks = settled ? fragment(settled) : null;
    const count = blocks ? blocks.childNodes.length : 0;
    const next = blocks ?? document.createDocumentFragment();
    next.append(fragment(html));
    morph(this.text, next, this.settled);
    this.settled += count;
    this.tail = html;
    if (count) this.decorate();
    this.drawUnder();
    return true;
  }

  void() { this.text.replaceChildren(); this.settled = 0; this.tail = ""; }

  decorate() {
    const { words } = this.host;
    for (const head of this.text.querySelectorAll(".code-head:not(:has(button))")) {
      const copy = button("btn quiet small", words.copy, "");
      copy.dataset.own = "";
      copy.dataset.code = "";
      head.append(copy);
    }
    requestAnimationFrame(() => {
      for (const box of this.text.querySelectorAll("pre, .table")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    });
  }

  drawTools() {
    const { view, host } = this;
    const open = new Set([...this.tools.querySelectorAll("details[open]")].map((line) => line.dataset.step));
    const lines = view.steps.map((step) => {
      const line = toolLine(step, host.words, () => host.act("detail", { job: view.job, key: view.key, id: step.id }));
      if (open.has(String(step.id))) line.open = true;
      return line;
    });
    this.tools.replaceChildren(...lines);
  }

  step(step) {
    const steps = [...(this.view.steps ?? [])];
    const at = steps.findIndex((old) => old.id === step.id);
    if (at < 0) steps.push(step); else steps[at] = { ...steps[at], ...step };
    this.view.steps = steps;
    this.drawTools();
    this.drawUnder();
  }

  detail({ id, args, result }) {
    const step = this.view.steps?.find((one) => one.id === id);
    const line = step && this.tools.querySelector(`[data-step="${CSS.escape(step.id)}"]`);
    if (line) fillTool(line, { args, result }, this.host.words);
  }

  drawFailure() {
    const { view, host: { words, act } } = this;
    if (!view.failed) {
      if (this.failure.className) { this.el.insertBefore(this.text, this.failure); this.failure.className = ""; }
      return this.failure.replaceChildren();
    }
    this.failure.className = "failure";
    const acts = make("div", "acts");
    if (view.job) acts.append(button("btn small ic ic-refresh", words.retry, "", () => act("retry", { job: view.job })));
    if (view.failed.href) acts.append(make("a", "btn small", view.failed.act, { href: view.failed.href }));
    if (view.job) acts.append(make("a", "btn quiet small", words.trace, { href: `/trace/${view.job}` }));
    this.failure.replaceChildren(make("div", "failure-who", view.failed.who), this.text, acts);
  }

  drawUnder() {
    const { view, host: { words, act } } = this;
    const parts = [];
    if (view.demo) parts.push(make("span", "tag demo", words.demo));
    if (view.running) {
      const doing = this.text.childElementCount || view.ask ? "" : view.note || words.working;
      if (doing) parts.push(make("span", "waiting", doing));
    } else {
      if (view.model && !view.demo) parts.push(make("span", "", view.model));
      parts.push(time(view.at, "ago"));
      if (view.used) parts.push(make("span", "", view.used));
      if (!view.failed) {
        const copy = button("iconbtn ic ic-copy", "", words.copy);
        copy.dataset.copy = view.source ?? "";
        copy.dataset.answer = "";
        parts.push(copy);
        if (view.job) parts.push(button("iconbtn ic ic-refresh", "", words.retry, () => act("retry", { job: view.job })));
        if (view.job) parts.push(make("a", "iconbtn ic ic-activity", "", { href: `/trace/${view.job}`, "aria-label": words.trace, title: words.trace }));
      }
    }
    this.under.replaceChildren(...parts);
  }
}
