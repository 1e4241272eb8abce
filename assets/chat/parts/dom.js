// Making and changing DOM nodes. Text is always text; HTML comes only from the server, where it was cleaned.

export function make(tag, css = "", text = "", attrs = {}) {
  const el = document.createElement(tag);
  if (css) el.className = css;
  if (text !== "" && text !== null) el.textContent = text;
  for (const [name, value] of Object.entries(attrs)) {
    if (value === true) el.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) el.setAttribute(name, value);
  }
  return el;
}

export const icon = (name, css = "") => make("i", `ic ic-${name} ${css}`.trim(), "", { "aria-hidden": "true" });

export function button(css, text, label, act) {
  const el = make("button", css, text, { type: "button", "aria-label": label || null, title: label || null });
  if (act) el.addEventListener("click", act);
  return el;
}

export function time(at, form) {
  return at ? make("time", "", "", { "data-at": at, "data-form": form }) : make("span");
}

export function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

const ours = (node) => node.nodeType === 1 && node.dataset.own !== undefined;

// Make the children of `live` from number `from` on equal those of `next`, touching only what differs: what a reader
// has selected stays selected. Nodes with data-own are left alone.
export function morph(live, next, from = 0) {
  const old = [...live.childNodes].filter((node) => !ours(node)).slice(from);
  const wanted = [...next.childNodes];
  wanted.forEach((node, i) => {
    const there = old[i];
    if (!there) live.append(node);
    else if (there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === 3) {
      if (node.data.startsWith(there.data)) {
        if (node.data.length > there.data.length) there.appendData(node.data.slice(there.data.length));
      } else there.data = node.data;
    } else if (node.nodeType === 1) {
      for (const { name } of [...there.attributes]) {
        if (!node.hasAttribute(name) && name !== "tabindex") there.removeAttribute(name);
      }
      for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
      morph(there, node);
    }
  });
  old.slice(wanted.length).forEach((node) => node.remove());
}

// Fill {name} in a text of the catalogue.
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => (name in values ? values[name] : all));

export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

// Random without a secure context too: the panel may be reached without TLS inside a network.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
}
