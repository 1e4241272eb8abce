// The chat page: conversations, messages, composer, plan. It holds no truth: the server says what is, this shows it.
// Only what was typed is kept here (localStorage), so that no cut and no reload loses it.
import { Composer, Drafts, MessageList, Pane, Sidebar, newKey, onSocket, setting } from "zhixing-chat";

const UNDO = 10000;
const AGAIN = 5 * 60000; // what was sent longer ago without an answer goes back into the box instead of out

export default {
  components: { Composer, Pane, Sidebar },
  props: { initial: Object, words: Object, me: String, attach: Number },
  emits: ["act"],
  template: `
    <div class="chat" :class="{sided: pane.shown, listed}" @keydown.esc="close">
      <sidebar :words="words" :rows="list.rows" :more="list.more" :search="list.search" :loading="list.loading" :current="current.id"
        :removed="removed" :open="listed" @pick="pick" @create="pick(null)" @rename="act('rename', $event)" @remove="remove" @undo="undo"
        @find="find" @load="load" @close="close"></sidebar>
      <div v-if="listed" class="scrim only-phone" @click="close"></div>
      <section class="mid" :aria-label="current.title || words.new_title">
        <header class="bar">
          <button type="button" class="iconbtn ic ic-left only-phone" :aria-label="words.conversations" :aria-expanded="String(listed)" ref="opener" @click="open"></button>
          <h2 class="cut">{{ current.title || words.new_title }}</h2>
          <a v-if="demo" class="tag demo" href="/models" :title="words.demo_help">{{ words.demo }}</a>
          <label class="model"><span class="hide-phone">{{ words.model }}</span>
            <select class="input" :value="current.model" :title="words.model" :aria-label="words.model" data-testid="chat-model" @change="model($event.target.value)">
              <option v-for="one in models" :key="one.ref" :value="one.ref">{{ one.label }}</option>
            </select></label>
          <button type="button" class="iconbtn ic ic-panel hide-phone" :aria-label="words.pane" :aria-pressed="String(pane.shown)" :title="words.pane" @click="fold"></button>
        </header>
        <div class="stage">
          <div class="scroll" ref="scroll" tabindex="0" role="log" aria-live="off" :aria-label="words.messages" v-show="phase === 'shown'"></div>
          <div v-if="phase === 'loading'" class="loading"><div class="skeleton"></div><div class="skeleton"></div><div class="skeleton"></div><span class="sr">{{ words.loading }}</span></div>
          <div v-if="phase === 'failed'" class="state failed" role="alert">
            <p class="state-title">{{ failed.what }}</p><p class="muted">{{ failed.remedy }}</p>
            <button type="button" class="btn" @click="again">{{ words.again }}</button>
          </div>
          <div v-if="phase === 'empty'" class="empty">
            <h2>{{ words.hello }}</h2><p class="muted">{{ words.hello_help }}</p>
            <div class="examples"><button v-for="text in words.examples" :key="text" type="button" class="btn example" @click="say(text)">{{ text }}</button></div>
          </div>
          <button v-if="jump" type="button" class="btn jump ic ic-down" :class="{fresh: jump === 'fresh'}" @click="latest" @wheel.passive="$refs.scroll.scrollTop += $event.deltaY">{{ jump === "fresh" ? words.jump_fresh : words.jump }}</button>
        </div>
        <composer ref="composer" :words="words" :running="running" :stopping="stopping" :offline="offline" :files="files" :can-attach="Boolean(attach)"
          :placeholder="phase === 'empty' ? words.placeholder : words.placeholder_on" @send="send" @stop="stop" @typed="typed" @attach="take_files" @unattach="unattach"></composer>
        <div class="sr" role="status">{{ said }}</div>
      </section>
      <pane v-if="pane.shown" :words="words" :plan="pane.plan" :used="pane.used" :job="pane.job"></pane>
    </div>`,
  data() {
    const { list, current, models, phase } = this.initial;
    return {
      list: { ...list, search: "", loading: false }, current, models, phase, failed: this.initial.failed ?? {}, running: false, stopping: false,
      offline: false, listed: false, removed: null, jump: false, said: "", files: [],
      pane: { shown: setting("chat.pane") !== "off", plan: [], used: null, job: null },
    };
  },
  computed: {
    demo() { return Boolean((this.models.find((one) => one.ref === this.current.model) ?? this.models[0])?.demo); },
  },
  watch: {
    "current.title"(title) { document.title = `${title || this.words.new_title} · ${document.title.split(" · ").at(-1)}`; },
  },
  created() {
    this.drafts = new Drafts(this.me);
    this.line = 0;
    this.tried = new Map();
  },
  mounted() {
    this.messages = new MessageList(this.$refs.scroll, { words: this.words, act: this.act }, (state) => {
      if (state === true) this.jump = "fresh";
      else if (state === false) this.jump = false;
      else if (!this.jump) this.jump = "far";
    });
    this.show(this.initial);
    this.write();
    this.ended = [onSocket((socket) => {
      const up = () => { this.offline = false; this.line++; setTimeout(() => this.resend(), 300); };
      const down = () => { this.offline = true; };
      socket.on("connect", up);
      socket.on("disconnect", down);
      if (socket.connected) up();
      this.ended.push(() => { socket.off("connect", up); socket.off("disconnect", down); });
    })];
    for (const [target, name, fn] of [[window, "popstate", this.back], [document, "visibilitychange", this.seen], [window, "pagehide", this.keep], [window, "zhixing-files", this.carried]]) {
      target.addEventListener(name, fn);
      this.ended.push(() => target.removeEventListener(name, fn));
    }
  },
  beforeUnmount() { this.keep(); this.messages.destroy(); this.ended.forEach((end) => end()); },
  methods: {
    act(kind, data = {}) { this.$emit("act", { do: kind, ...data }); },

    // ---- what the server says
    take(kind, data) { this["take_" + kind]?.(data); },

    take_list({ rows, more, search, append }) {
      if ((search ?? "") !== this.list.search) return;
      if (append) { const known = new Set(this.list.rows.map((row) => row.id)); rows = [...this.list.rows, ...rows.filter((row) => !known.has(row.id))]; }
      Object.assign(this.list, { rows, more, loading: false });
    },
    take_open(data) {
      if (data.current.id !== this.current.id) return;
      this.models = data.models;
      if (data.current.id !== null) this.show(data);
    },
    take_made({ id }) {
      if (this.current.id !== null) return;
      this.drafts.keep(null, "");
      this.current = { ...this.current, id };
      history.replaceState(null, "", "/chat/" + id);
      this.keep();
    },
    take_title({ id, title }) {
      if (this.current.id === id) this.current.title = title;
      const row = this.list.rows.find((one) => one.id === id);
      if (row) row.title = title;
    },
    take_failed(data) { if (data.id === this.current.id) { this.failed = data; this.phase = "failed"; } },
    take_older({ id, items, more }) {
      if (id !== this.current.id) return;
      this.messages.older(items, more);
      this.seek();
    },
    take_sent({ key, from, conversation, title, item, running }) {
      this.drafts.settled(from, key);
      if (this.current.id === null && from === null && this.messages.find("p" + key)) {
        this.current = { ...this.current, id: conversation, title };
        history.replaceState(null, "", "/chat/" + conversation);
      }
      if (this.current.id !== conversation) return;
      this.current.title ||= title;
      if (item) this.messages.merge([item]); else this.messages.remove("p" + key);
      this.running ||= running;
    },
    take_refused({ key, from, text }) {
      this.drafts.settled(from, key);
      if (this.current.id !== from) return this.drafts.keep(from, text);
      this.messages.remove("p" + key);
      if (!this.messages.items.length) this.phase = "empty";
      const typed = this.$refs.composer.get();
      this.$refs.composer.set(typed ? `${text}\n${typed}` : text);
      this.keep();
    },
    take_merge({ id, items }) { if (id === this.current.id) { this.messages.merge(items); if (items.length) this.phase = "shown"; } },
    take_run({ id, item, patch, pane }) {
      if (id !== this.current.id) return;
      this.phase = "shown";
      this.running = true;
      this.messages.merge([item]);
      if (patch) this.messages.find(item.key)?.grow({ ...patch, fresh: true });
      this.show_pane(pane);
      this.busy(true);
    },
    take_grow({ id, key, patches }) {
      if (id !== this.current.id) return;
      const message = this.messages.find(key);
      for (const patch of patches) if (message && !message.grow(patch)) return this.act("sync");
    },
    take_void({ id, key }) { if (id === this.current.id) this.messages.find(key)?.void(); },
    take_part({ id, key, steps = [], ...part }) {
      if (id !== this.current.id) return;
      if (Object.keys(part).length) this.messages.merge([{ key, ...part }]);
      for (const step of steps) this.messages.find(key)?.step(step);
      if (part.plan) this.show_pane({ plan: part.plan });
    },
    take_detail({ key, ...detail }) { this.messages.find(key)?.detail(detail); },
    take_ended({ id, job, items, pane, running, status }) {
      if (id !== this.current.id) return;
      this.messages.merge(items);
      if (!items.some((item) => item.replaces === "j" + job)) this.messages.remove("j" + job);
      this.running = running;
      this.stopping = false;
      this.show_pane(pane);
      this.busy(running);
      this.said = this.words["said_" + status] ?? "";
    },

    take_idle({ id, pane }) {
      if (id !== this.current.id) return;
      for (const item of this.messages.items.filter((one) => one.running)) this.messages.remove(item.key);
      this.running = this.stopping = false;
      this.show_pane(pane);
      this.busy(false);
    },

    // ---- showing
    show({ current, items, more, phase, pane }) {
      this.current = current;
      this.phase = phase;
      this.running = this.stopping = false;
      this.jump = false;
      this.messages.open(items, more);
      this.pane = { shown: this.pane.shown, plan: [], used: null, job: null, ...pane };
      for (const item of this.drafts.unsent(current.id)) this.pending(item);
      this.wanted = /^#(m\d+)$/.exec(location.hash)?.[1];
      this.seeking = 20;
      this.$nextTick(() => { this.messages.latest(); this.seek(); });
      if (window.socket?.connected && window.did_handshake) this.resend();
    },
    show_pane(pane) { Object.assign(this.pane, pane); },
    busy(running) {
      const row = this.list.rows.find((one) => one.id === this.current.id);
      if (row) row.running = running;
    },
    fold() {
      this.pane.shown = !this.pane.shown;
      setting("chat.pane", this.pane.shown ? "on" : "off");
    },
    latest() { this.messages.latest(); },
    // The address may name a message: read older ones until it is there.
    seek() {
      if (!this.wanted || !this.messages.items.length) return;
      if (this.messages.reveal(this.wanted) || !this.messages.more || this.seeking-- <= 0) this.wanted = null;
      else this.messages.ask();
    },

    // ---- which conversation
    open() {
      this.listed = true;
      this.$nextTick(() => this.$el.querySelector(".list .new").focus());
    },
    close() {
      if (!this.listed) return;
      this.listed = false;
      this.$refs.opener.focus();
    },
    pick(id) {
      this.listed = false;
      if (id === this.current.id && this.phase !== "failed") return this.$refs.composer.focus();
      history.pushState(null, "", id === null ? "/chat" : "/chat/" + id);
      this.go(id);
    },
    go(id) {
      this.keep();
      const row = this.list.rows.find((one) => one.id === id);
      this.show({ current: { id, title: row?.title ?? "", model: "" }, items: [], more: false, phase: id === null ? "empty" : "loading" });
      this.write();
      this.act("open", { id });
    },
    write() {
      this.files = [];
      this.$refs.composer.set(this.drafts.draft(this.current.id));
      if (window.innerWidth > 900) this.$nextTick(() => this.$refs.composer.focus());
    },
    again() { this.go(this.current.id); },
    back() {
      const found = /^\/chat(?:\/(\d+))?$/.exec(location.pathname);
      if (found) this.go(found[1] ? Number(found[1]) : null);
    },
    seen() { if (document.hidden) this.keep(); else this.act("seen"); },
    find(text) {
      this.list.search = text;
      this.list.loading = true;
      clearTimeout(this.finding);
      this.finding = setTimeout(() => this.act("list", { search: text }), 250);
    },
    load() {
      if (this.list.loading) return;
      this.list.loading = true;
      this.act("list", { search: this.list.search, before: this.list.rows.at(-1)?.at });
    },
    remove(row) {
      this.list.rows = this.list.rows.filter((one) => one.id !== row.id);
      this.removed = row.id;
      clearTimeout(this.undoing);
      this.undoing = setTimeout(() => { this.removed = null; }, UNDO);
      this.act("remove", { id: row.id });
      if (row.id === this.current.id) this.pick(null);
    },
    undo() {
      clearTimeout(this.undoing);
      this.act("restore", { id: this.removed });
      this.removed = null;
    },
    model(ref) {
      this.current.model = ref;
      if (this.current.id !== null) this.act("model", { id: this.current.id, ref });
    },

    // ---- saying something
    typed(text) {
      clearTimeout(this.keeping);
      this.keeping = setTimeout(() => this.drafts.keep(this.current.id, text), 150);
    },
    keep() {
      clearTimeout(this.keeping);
      if (this.$refs.composer) this.drafts.keep(this.current.id, this.$refs.composer.get());
    },
    say(text) { this.$refs.composer.set(text); this.send(text); },
    send(text) {
      if (this.files.some((file) => !file.ref && !file.error)) return;
      const parts = this.files.map((file) => file.ref).filter(Boolean);
      const item = { key: newKey(), text, model: this.current.model, at: Date.now(), parts };
      this.drafts.sending(this.current.id, item);
      this.$refs.composer.set("");
      this.keep();
      this.files = [];
      this.phase = "shown";
      this.pending(item);
      this.latest();
      this.out(item);
    },
    pending({ key, text, at, parts }) {
      const shown = (parts ?? []).map((name) => ({ name }));
      this.messages.merge([{ key: "p" + key, mine: true, text, at, parts: shown, state: "sending" }]);
      this.phase = "shown";
    },
    out(item) {
      this.tried.set(item.key, this.line);
      this.act("send", { from: this.current.id, ...item });
    },
    // What went out over a connection that was cut may not have arrived: the key makes it arrive once.
    resend() {
      for (const item of this.drafts.unsent(this.current.id)) {
        if (this.tried.get(item.key) === this.line) continue;
        if (Date.now() - item.at < AGAIN) { this.out(item); continue; }
        this.take_refused({ key: item.key, from: this.current.id, text: item.text });
      }
    },
    stop() { this.stopping = true; this.act("stop"); },

    // ---- files
    take_files(files) {
      const upload = window.getElement?.(this.attach) ?? null;
      if (!upload) return;
      if (files === null) upload.$refs.qRef.pickFiles(); else upload.$refs.qRef.addFiles(files);
    },
    take_file(file) { this.files = [...this.files.filter((one) => one.id !== file.id), file]; },
    carried({ detail: { added = [], arrived = [], refused = [] } }) {
      this.files = this.files.filter((file) => !(file.busy && arrived.includes(file.id)));
      for (const name of added) this.take_file({ id: name, name, busy: true });
      for (const name of refused) this.take_file({ id: name, name, error: this.words.file_refused });
    },
    unattach(id) { this.files = this.files.filter((one) => one.id !== id); },
  },
};
