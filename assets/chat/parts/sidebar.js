// The conversations: search, new, rename, delete with undo, which one is being answered.

export const Sidebar = {
  props: ["words", "rows", "more", "current", "search", "loading", "removed", "open"],
  emits: ["pick", "create", "rename", "remove", "undo", "find", "load", "close"],
  template: `
    <nav class="list" :class="{open}" :aria-label="words.conversations">
      <div class="list-head">
        <button type="button" class="btn new" data-testid="chat-new" @click="$emit('create')">{{ words.new }}</button>
        <button type="button" class="iconbtn ic ic-x only-phone" :aria-label="words.close" @click="$emit('close')"></button>
      </div>
      <div class="find" data-search><input class="input" type="search" autocomplete="off" :value="search" :placeholder="words.search"
        :aria-label="words.search" @input="$emit('find', $event.target.value)"></div>
      <ul class="convs" @scroll.passive="scroll">
        <li v-for="row in rows" :key="row.id" class="conv" :class="{on: row.id === current}">
          <form v-if="editing === row.id" class="edit" @submit.prevent="save(row)">
            <input ref="edit" class="input" maxlength="80" :aria-label="words.rename" :value="row.title" @keydown.esc.stop="editing = null" @blur="save(row)">
          </form>
          <template v-else>
            <a :href="'/chat/' + row.id" :aria-current="row.id === current ? 'page' : null" @click="go($event, row)">
              <span class="name cut">{{ row.title || words.untitled }}</span>
              <span class="meta"><span v-if="row.running" class="busy">{{ words.running }} · </span><time :data-at="row.at" data-form="ago" :key="row.at"></time></span>
            </a>
            <span class="tools">
              <button type="button" class="iconbtn ic ic-edit" :aria-label="words.rename + ' ' + row.title" :title="words.rename" @click="edit(row)"></button>
              <button type="button" class="iconbtn ic ic-trash" :aria-label="words.remove + ' ' + row.title" :title="words.remove" @click="$emit('remove', row)"></button>
            </span>
          </template>
        </li>
        <li v-if="!rows.length && !loading" class="faint small none">{{ search ? words.search_none : words.list_empty }}</li>
        <li v-if="more" class="none"><button type="button" class="btn quiet small" @click="$emit('load')">{{ words.list_more }}</button></li>
      </ul>
      <div v-if="removed" class="undo" role="status">
        <span class="cut">{{ words.removed }}</span><button type="button" class="btn quiet small" @click="$emit('undo')">{{ words.undo }}</button>
      </div>
    </nav>`,
  data: () => ({ editing: null }),
  methods: {
    go(e, row) {
      if (e.metaKey || e.ctrlKey || e.shiftKey || e.button) return;
      e.preventDefault();
      this.$emit("pick", row.id);
    },
    edit(row) {
      this.editing = row.id;
      this.$nextTick(() => { const [box] = [].concat(this.$refs.edit); box?.focus(); box?.select(); });
    },
    save(row) {
      if (this.editing !== row.id) return;
      const [box] = [].concat(this.$refs.edit);
      const title = box.value.trim();
      this.editing = null;
      if (title && title !== row.title) this.$emit("rename", { id: row.id, title });
    },
    scroll(e) {
      const { scrollTop, scrollHeight, clientHeight } = e.target;
      if (this.more && !this.loading && scrollHeight - clientHeight - scrollTop < 200) this.$emit("load");
    },
  },
};
