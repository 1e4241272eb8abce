// Keyboard, drawer, copy and relative times. No words of its own: those come with the rail's data attributes.
(() => {
  const rail = () => document.querySelector("[data-rail]");
  const word = (name) => document.querySelector("[data-words]")?.dataset[name] ?? "";
  const typing = (el) => el && (el.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(el.tagName));

  // Texts are Vue's text nodes: change the node, never replace it.
  const setText = (el, text) => { if (el.firstChild?.nodeType === 3) el.firstChild.nodeValue = text; else el.textContent = text; };

  // ---- relative times -------------------------------------------------------------------------------------------
  let ago;
  function relative(at) {
    ago ??= JSON.parse(word("ago") || "{}");
    const left = at - Date.now(), s = Math.abs(left) / 1000, pre = left > 5000 ? "in_" : "";
    if (s < 10 && !pre) return ago.now;
    const [name, n] = s < 60 ? ["seconds", s] : s < 3600 ? ["minutes", s / 60] : s < 86400 ? ["hours", s / 3600] : ["days", s / 86400];
    return (ago[pre + name] ?? "").replace("{n}", Math.max(1, Math.floor(n)));
  }
  const lang = () => document.documentElement.lang || undefined;
  const exact = (at) => new Date(at).toLocaleString(lang(), { dateStyle: "medium", timeStyle: "medium" }) +
    " " + Intl.DateTimeFormat().resolvedOptions().timeZone;
  const forms = {
    ago: relative,
    exact: (at) => new Date(at).toLocaleString(lang(), { dateStyle: "short", timeStyle: "medium" }),
    clock: (at) => new Date(at).toLocaleTimeString(lang(), { timeStyle: "short" }),
  };
  function stamp(el) {
    const at = Number(el.dataset.at);
    if (!at || !word("ago")) return;
    const text = (forms[el.dataset.form] ?? relative)(at);
    if (text && el.textContent !== text) setText(el, text);
    el.title = exact(at);
  }
  const stampAll = (root) => root.querySelectorAll?.("time[data-at]").forEach(stamp);
  setInterval(() => document.hidden || stampAll(document), 10000);
  new MutationObserver((list) => {
    for (const change of list) for (const node of change.addedNodes) {
      if (node.nodeType !== 1) continue;
      if (node.matches("time[data-at]")) stamp(node); else stampAll(node);
      node.querySelectorAll("form[data-keep]").forEach(restore);
      if (node.matches("[data-words]") || node.querySelector("[data-words]")) stampAll(document);
    }
  }).observe(document.documentElement, { childList: true, subtree: true });

  // ---- drawer ---------------------------------------------------------------------------------------------------
  function drawer(open) {
    const button = document.querySelector("[data-drawer]");
    document.documentElement.classList.toggle("drawer-open", open);
    button?.setAttribute("aria-expanded", String(open));
    if (open) rail().querySelector("a")?.focus(); else if (rail()?.contains(document.activeElement)) button?.focus();
  }
  const drawn = () => document.documentElement.classList.contains("drawer-open");

  // ---- copy -----------------------------------------------------------------------------------------------------
  async function copy(button) {
    const text = button.dataset.copy;
    try { await navigator.clipboard.writeText(text); }
    catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      button.parentElement.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    const before = button.dataset.label ?? (button.dataset.label = button.textContent);
    button.classList.add("copied");
    if (before) setText(button, word("copied")); else button.setAttribute("aria-label", word("copied"));
    clearTimeout(button._back);
    button._back = setTimeout(() => {
      button.classList.remove("copied");
      if (before) setText(button, before);
    }, 1600);
  }

  // ---- typed text outlives a reload (never secrets), and leaving with it is asked about --------------------------
  const store = (form) => `zhixing:${location.pathname}:${form.dataset.keep}`;
  document.addEventListener("input", (e) => {
    for (const line of e.target.form?.querySelectorAll(`[data-follow="${e.target.name}"]`) ?? []) {
      const text = line.dataset.start + (e.target.value.trim() || e.target.defaultValue);
      setText(line.querySelector(".mono"), text);
      line.querySelector("[data-copy]").dataset.copy = text;
    }
    const form = e.target.closest?.("form[data-keep]");
    if (!form) return;
    form.dataset.dirty = "1";
    const kept = {};
    for (const el of form.elements) if (el.name && !["password", "checkbox", "hidden"].includes(el.type) && !el.readOnly) kept[el.name] = el.value;
    try { sessionStorage.setItem(store(form), JSON.stringify(kept)); } catch { /* full or forbidden: only convenience */ }
  });
  function restore(form) {
    let kept;
    try { kept = JSON.parse(sessionStorage.getItem(store(form)) ?? "null"); } catch { return; }
    for (const el of form.elements) {
      const text = kept?.[el.name];
      if (typeof text !== "string" || el.type === "password" || text === el.value) continue;
      el.value = text; form.dataset.dirty = "1";
      form.querySelector(".kept")?.removeAttribute("hidden");
    }
  }
  function forget(form) {
    sessionStorage.removeItem(store(form));
    delete form.dataset.dirty;
    form.querySelector(".kept")?.setAttribute("hidden", "");
  }
  window.zhixingKept = (id) => { const form = document.getElementById(id); if (form) forget(form); };

  // ---- go to a page ---------------------------------------------------------------------------------------------
  function palette() {
    if (document.querySelector("dialog.palette") || !rail()) return;
    const box = Object.assign(document.createElement("dialog"), { className: "palette" });
    const input = Object.assign(document.createElement("input"), { type: "search", placeholder: word("find"), autocomplete: "off" });
    input.setAttribute("aria-label", word("find"));
    box.setAttribute("aria-label", word("find"));
    const list = document.createElement("div");
    const pages = [...rail().querySelectorAll("a.nav")];
    function show() {
      const wanted = input.value.trim().toLowerCase();
      const found = pages.filter((a) => (a.textContent + " " + a.getAttribute("href")).toLowerCase().includes(wanted));
      list.replaceChildren(...found.map((a) => {
        const row = a.cloneNode(true);
        row.removeAttribute("id"); row.removeAttribute("aria-current"); row.classList.remove("on");
        if (a.dataset.key) row.append(Object.assign(document.createElement("kbd"), { textContent: "g " + a.dataset.key }));
        return row;
      }));
      if (!found.length) list.append(Object.assign(document.createElement("p"), { className: "muted", textContent: word("nothing") }));
      list.firstElementChild?.classList.add("on");
    }
    input.addEventListener("input", show);
    box.addEventListener("keydown", (e) => {
      if (e.isComposing || e.keyCode === 229) return;
      const rows = [...list.querySelectorAll("a")], at = rows.findIndex((r) => r.classList.contains("on"));
      if (e.key === "Enter" && rows[at] && document.activeElement === input) { e.preventDefault(); rows[at].click(); }
      if (e.key !== "ArrowDown" && e.key !== "ArrowUp") return;
      e.preventDefault();
      rows[at]?.classList.remove("on");
      rows.at((at + (e.key === "ArrowDown" ? 1 : -1)) % rows.length)?.classList.add("on");
    });
    box.addEventListener("close", () => box.remove());
    box.addEventListener("click", (e) => e.target === box && box.close());
    box.append(input, list);
    document.body.append(box);
    show();
    box.showModal();
  }

  // ---- events ---------------------------------------------------------------------------------------------------
  document.addEventListener("click", (e) => {
    const button = e.target.closest?.("[data-copy],[data-drawer],[data-palette],[data-fill],[data-forget]");
    if (button?.dataset.copy !== undefined) copy(button);
    else if (button?.dataset.fill !== undefined) {
      const field = button.form?.elements[button.dataset.fill];
      if (field) { field.value = button.dataset.value; field.dispatchEvent(new Event("input", { bubbles: true })); field.focus(); }
    }
    else if (button?.dataset.forget !== undefined) { const form = button.form; form.reset(); forget(form); }
    else if (button?.dataset.drawer !== undefined) drawer(!drawn());
    else if (button) palette();
    else if (drawn() && !e.target.closest("[data-rail]")) drawer(false);
  });
  let led = 0;
  document.addEventListener("keydown", (e) => {
    if (e.isComposing || e.keyCode === 229 || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Escape" && drawn()) return drawer(false);
    if (typing(e.target) || document.querySelector("dialog[open], .q-dialog--modal, .q-menu")) return;
    if (e.key === "/") {
      e.preventDefault();
      const search = document.querySelector("[data-search] input, input[data-search]");
      if (search) search.focus(); else palette();
    } else if (e.key === "g") led = Date.now();
    else if (Date.now() - led < 1200) {
      led = 0;
      const link = [...(rail()?.querySelectorAll("a[data-key]") ?? [])].find((a) => a.dataset.key === e.key);
      if (link) { e.preventDefault(); link.click(); }
    }
  });
  // a refused socket says nothing to a person: where the session has ended, lead to the sign-in form and back here
  let asked = 0;
  async function ended() {
    if (document.hidden || Date.now() - asked < 5000) return;
    asked = Date.now();
    try {
      const answer = await fetch("/account", { redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
    } catch { /* the server is away: the socket goes on trying */ }
  }
  const waiting = setInterval(() => {
    if (!window.socket) return;
    clearInterval(waiting);
    window.socket.io.on("reconnect_error", ended);
    window.socket.on("connect_error", ended);
  }, 500);
})();
