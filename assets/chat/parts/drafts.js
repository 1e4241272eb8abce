// What was typed but not sent, and what was sent but not yet acknowledged; both survive a reload of the page.

const WEEK = 7 * 86400e3;
const OURS = /^zhixing\.[0-9a-f]{12}\.(draft|unsent)\./;

// A small setting of this browser; a browser may forbid to keep any.
export function setting(name, value) {
  try {
    if (value === undefined) return localStorage.getItem("zhixing." + name);
    localStorage.setItem("zhixing." + name, value);
  } catch { /* forbidden */ }
  return null;
}

export class Drafts {
  constructor(me) { this.prefix = `zhixing.${me}.`; this.sweep(); }

  key(kind, conversation) { return `${this.prefix}${kind}.${conversation ?? "new"}`; }

  read(name) {
    try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }
  }
  write(name, value) {
    try { value ? localStorage.setItem(name, JSON.stringify(value)) : localStorage.removeItem(name); } catch { /* full or forbidden */ }
  }

  draft(conversation) { return this.read(this.key("draft", conversation))?.text ?? ""; }
  keep(conversation, text) { this.write(this.key("draft", conversation), text ? { text, at: Date.now() } : null); }

  unsent(conversation) { return this.read(this.key("unsent", conversation))?.list ?? []; }
  sending(conversation, item) {
    this.write(this.key("unsent", conversation), { list: [...this.unsent(conversation), item], at: Date.now() });
  }
  settled(conversation, key) {
    const list = this.unsent(conversation).filter((item) => item.key !== key);
    this.write(this.key("unsent", conversation), list.length ? { list, at: Date.now() } : null);
  }

  sweep() {
    try {
      for (const name of Object.keys(localStorage)) {
        if (OURS.test(name) && Date.now() - (this.read(name)?.at ?? 0) > WEEK) localStorage.removeItem(name);
      }
    } catch { /* forbidden */ }
  }
}
