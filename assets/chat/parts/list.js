// The messages of the open conversation: a window onto a list, that follows the newest while one reads there.
import { make } from "./dom.js";
import { Message } from "./message.js";

const MOST = 200; // messages in the page at once
const STEP = 40;
const NEAR = 48;

export class MessageList {
  constructor(scroller, host, onJump) {
    Object.assign(this, { scroller, host, onJump });
    this.log = make("div", "log");
    scroller.replaceChildren(this.log);
    this.items = [];
    this.messages = new Map();
    this.from = this.to = 0;
    this.more = false;
    this.asked = false;
    this.following = true;
    scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    scroller.addEventListener("wheel", (e) => { if (e.deltaY < 0) this.leave(); }, { passive: true });
    scroller.addEventListener("touchmove", () => this.leave(), { passive: true });
    scroller.addEventListener("keydown", (e) => { if (["PageUp", "ArrowUp", "Home"].includes(e.key)) this.leave(); });
    scroller.addEventListener("click", (e) => this.clicked(e), true);
    this.sizes = new ResizeObserver(() => this.pin());
    this.sizes.observe(this.log);
    this.sizes.observe(scroller);
  }

  destroy() { this.sizes.disconnect(); }

  // ---- what is shown

  open(items, more) {
    this.items = items;
    this.messages.clear();
    this.log.replaceChildren();
    this.more = more;
    this.asked = false;
    this.to = items.length;
    this.from = Math.max(0, this.to - STEP);
    for (let i = this.from; i < this.to; i++) this.log.append(this.dom(this.items[i]).el);
    this.latest();
  }

  older(items, more) {
    this.asked = false;
    this.more = more;
    const known = new Set(this.items.map((item) => item.key));
    const fresh = items.filter((item) => !known.has(item.key));
    this.items.unshift(...fresh);
    this.from += fresh.length;
    this.to += fresh.length;
    this.earlier();
  }

  // New and changed messages, in order; unknown ones go to the end.
  merge(items) {
    for (const item of items) {
      let at = this.items.findIndex((old) => old.key === item.key);
      if (at >= 0 && item.replaces && this.items.some((old) => old.key === item.replaces)) {
        this.remove(item.replaces);
        at = this.items.findIndex((old) => old.key === item.key);
      } else if (at < 0 && item.replaces) at = this.items.findIndex((old) => old.key === item.replaces);
      if (at < 0) this.place(item);
      else {
        const known = this.messages.get(this.items[at].key);
        if (known && this.items[at].key !== item.key) {
          this.messages.delete(this.items[at].key);
          this.messages.set(item.key, known);
          known.el.dataset.key = item.key;
        }
        this.items[at] = { ...this.items[at], ...item };
        known?.update(item);
      }
    }
  }

  // An answer stands behind its question, also when more was said meanwhile.
  place(item) {
    const last = item.job && !item.mine ? this.items.findLastIndex((old) => old.job === item.job) : -1;
    if (last < 0 || last === this.items.length - 1) return this.push(item);
    this.items.splice(last + 1, 0, item);
    if (last + 1 < this.from) { this.from++; this.to++; }
    else if (last < this.to) {
      this.log.insertBefore(this.dom(item).el, this.messages.get(this.items[last + 2]?.key)?.el ?? null);
      this.to++;
    }
  }

  push(item) {
    const shown = this.to === this.items.length;
    this.items.push(item);
    if (!shown) return this.onJump(true);
    this.log.append(this.dom(item).el);
    this.to++;
    if (this.to - this.from > MOST && this.following) this.dropFirst(this.to - this.from - MOST);
    if (!this.following) this.onJump(true);
  }

  remove(key) {
    const at = this.items.findIndex((item) => item.key === key);
    if (at < 0) return;
    this.items.splice(at, 1);
    if (at < this.from) { this.from--; this.to--; }
    else if (at < this.to) this.to--;
    this.messages.get(key)?.el.remove();
    this.messages.delete(key);
  }

  find(key) { return this.messages.get(key); }

  dom(item) {
    let message = this.messages.get(item.key);
    if (!message) this.messages.set(item.key, (message = new Message(item, this.host)));
    return message;
  }

  // A message outside the window: its DOM goes, its state stays in `items`.
  forget(item) {
    const message = this.messages.get(item.key);
    if (!message) return;
    Object.assign(item, message.view);
    message.el.remove();
    if (!message.view.running) this.messages.delete(item.key);
  }

  dropFirst(count) {
    for (const item of this.items.slice(this.from, this.from + count)) this.forget(item);
    this.from += count;
  }

  earlier() {
    if (!this.from) return;
    const start = Math.max(0, this.from - STEP);
    this.held(() => {
      this.log.prepend(...this.items.slice(start, this.from).map((item) => this.dom(item).el));
      this.from = start;
      const over = this.to - this.from - MOST;
      if (over > 0 && !this.following) {
        for (const item of this.items.slice(this.to - over, this.to)) this.forget(item);
        this.to -= over;
      }
    });
  }

  later() {
    const end = Math.min(this.items.length, this.to + STEP);
    this.held(() => {
      this.log.append(...this.items.slice(this.to, end).map((item) => this.dom(item).el));
      this.to = end;
      const over = this.to - this.from - MOST;
      if (over > 0) this.dropFirst(over);
    });
  }

  // Bring a message into view; true if it is here.
  reveal(key) {
    const at = this.items.findIndex((item) => item.key === key);
    if (at < 0) return false;
    while (at < this.from) this.earlier();
    this.following = false;
    const { el } = this.messages.get(key);
    el.scrollIntoView({ block: "center" });
    el.classList.add("found");
    this.onJump(null);
    return true;
  }

  // Change the window without moving what is being read.
  held(change) {
    const top = this.scroller.getBoundingClientRect().top;
    const anchor = [...this.log.children].find((el) => el.getBoundingClientRect().bottom > top);
    const before = anchor?.getBoundingClientRect().top;
    this.scroller.style.overflowAnchor = "none";
    change();
    if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
    requestAnimationFrame(() => { this.scroller.style.overflowAnchor = ""; });
  }

  // ---- scrolling

  get distance() { return this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop; }

  scrolled() {
    if (this.distance < NEAR && this.to === this.items.length) this.following = true;
    else if (this.distance > 4 * NEAR) this.following = false;
    if (this.following) this.onJump(false);
    else if (this.distance > this.scroller.clientHeight || this.to < this.items.length) this.onJump(null);
    if (this.scroller.scrollTop < 600 && !this.following) {
      if (this.from) this.earlier();
      else this.ask();
    }
    if (this.distance < 600 && this.to < this.items.length) this.later();
  }

  ask() {
    if (!this.more || this.asked) return;
    this.asked = true;
    this.host.act("older", { before: this.items.find((item) => item.id)?.id });
  }

  leave() { if (this.scroller.scrollHeight > this.scroller.clientHeight) this.following = false; }

  pin() { if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight; }

  latest() {
    if (this.to < this.items.length) {
      this.log.replaceChildren();
      for (const item of this.items.slice(this.from, this.to)) this.forget(item);
      this.to = this.items.length;
      this.from = Math.max(0, this.to - STEP);
      this.log.append(...this.items.slice(this.from, this.to).map((item) => this.dom(item).el));
    }
    this.following = true;
    this.pin();
    this.onJump(false);
  }

  clicked(e) {
    const copy = e.target.closest?.("button[data-code], button[data-answer]");
    if (copy?.dataset.code !== undefined) copy.dataset.copy = copy.closest(".code").querySelector("code").textContent;
    else if (copy && !copy.dataset.copy) copy.dataset.copy = copy.closest(".msg").querySelector(".text").innerText;
  }
}

