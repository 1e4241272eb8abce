// Where one types. Enter sends, Shift+Enter breaks the line, an input method's Enter does neither.

export const Composer = {
  props: ["words", "running", "stopping", "offline", "placeholder", "files", "canAttach"],
  emits: ["send", "stop", "typed", "attach", "unattach"],
  template: `
    <form class="composer" @submit.prevent="send" @dragover.prevent="over = true" @dragleave="over = false" @drop="drop" :class="{over}">
      <div v-if="offline" class="offline" role="status">{{ words.offline }}</div>
      <div class="in">
        <div v-if="files.length" class="files">
          <span v-for="file in files" class="tag" :class="{bad: file.error}">{{ file.name }}<span v-if="file.error"> · {{ file.error }}</span><span v-else-if="!file.ref"> · {{ words.file_busy }}</span>
            <button type="button" class="x" :aria-label="words.unattach + ' ' + file.name" @click="$emit('unattach', file.id)">×</button></span>
        </div>
        <div class="fields">
          <button v-if="canAttach" type="button" class="iconbtn ic ic-clip" :aria-label="words.attach" :title="words.attach" @click="$emit('attach', null)"></button>
          <textarea ref="box" rows="1" :placeholder="placeholder" :aria-label="words.message" maxlength="20000" enterkeyhint="send"
            data-testid="chat-text" @input="typed" @keydown="key" @paste="paste"></textarea>
          <kbd class="hide-phone" aria-hidden="true">Enter</kbd>
          <button v-if="running && !filled" type="button" class="btn send ic ic-stop" data-testid="chat-stop" :disabled="stopping" @click="$emit('stop')">{{ words.stop }}</button>
          <button v-else type="submit" class="btn pri send ic ic-send" data-testid="chat-send" :disabled="waiting || (!filled && !files.length)">{{ words.send }}</button>
        </div>
      </div>
    </form>`,
  data: () => ({ filled: false, over: false }),
  computed: { waiting() { return this.files.some((file) => !file.ref && !file.error); } },
  methods: {
    key(e) {
      // 229: Safari ends a composition before its Enter arrives, and marks that Enter so.
      if (e.key !== "Enter" || e.shiftKey || e.isComposing || e.keyCode === 229) return;
      e.preventDefault();
      this.send();
    },
    send() {
      const text = this.$refs.box.value.trim();
      if (this.waiting || (!text && !this.files.some((file) => file.ref))) return;
      this.$emit("send", text);
    },
    set(text) {
      this.$refs.box.value = text;
      this.fit();
    },
    get() { return this.$refs.box.value; },
    focus() { this.$refs.box.focus(); },
    typed() {
      this.fit();
      this.$emit("typed", this.$refs.box.value);
    },
    fit() {
      const box = this.$refs.box;
      this.filled = box.value.trim() !== "";
      box.style.height = "auto";
      box.style.height = Math.min(box.scrollHeight, window.innerHeight * 0.4) + "px";
    },
    drop(e) {
      this.over = false;
      const files = [...(e.dataTransfer?.files ?? [])];
      if (files.length) { e.preventDefault(); if (this.canAttach) this.$emit("attach", files); }
    },
    paste(e) {
      const files = [...(e.clipboardData?.files ?? [])];
      if (files.length && this.canAttach) { e.preventDefault(); this.$emit("attach", files); }
    },
  },
};
