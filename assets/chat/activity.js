// The table of tasks. Rows come from the server as data: a busy list changes every few seconds.
const duration = (ms) => ms === null ? "–" : ms < 1000 ? `${ms} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;

export default {
  props: { words: Object, initial: Array, mayCancel: Boolean },
  emits: ["cancel"],
  template: `
    <div class="scroll-x tasks" tabindex="0" role="region" :aria-label="words.title">
      <table class="t activity">
        <thead><tr>
          <th scope="col">{{ words.state }}</th><th scope="col">{{ words.request }}</th><th scope="col" class="hide-phone">{{ words.from }}</th>
          <th scope="col" class="hide-phone">{{ words.model }}</th><th scope="col" class="num hide-phone">{{ words.own }}</th>
          <th scope="col" class="num">{{ words.total }}</th><th scope="col" class="num">{{ words.time }}</th>
          <th v-if="mayCancel" scope="col" class="num"><span class="sr">{{ words.act }}</span></th>
        </tr></thead>
        <tbody>
          <tr v-for="row in rows" :key="row.id" :data-task="row.id">
            <td><span class="st" :class="row.state">{{ row.word }}</span></td>
            <td class="wide-cell"><a class="plain" :href="'/trace/' + row.id">{{ row.title }}</a><div v-if="row.why" class="small muted">{{ row.why }}</div></td>
            <td class="muted hide-phone nowrap">{{ row.source }}</td>
            <td class="muted hide-phone cut">{{ row.model }}</td>
            <td class="num hide-phone nowrap">{{ duration(row.own) }}</td>
            <td class="num nowrap">{{ duration(row.open ? Math.max(0, now - row.at) : row.total) }}</td>
            <td class="num faint"><time class="nowrap" :key="row.at" :data-at="row.at" data-form="ago"></time></td>
            <td v-if="mayCancel" class="num"><button v-if="row.open" type="button" class="btn small" :disabled="stopping.has(row.id)"
              :aria-label="words.cancel_of.replace('{title}', row.title)" @click="cancel(row.id)">{{ words.cancel }}</button></td>
          </tr>
        </tbody>
      </table>
    </div>`,
  data() { return { rows: this.initial, stopping: new Set(), now: Date.now() }; },
  mounted() { this.ticking = setInterval(() => { if (this.rows.some((row) => row.open)) this.now = Date.now(); }, 500); },
  beforeUnmount() { clearInterval(this.ticking); },
  methods: {
    duration,
    take(rows) { this.rows = rows; this.stopping = new Set(); },
    cancel(id) { this.stopping = new Set([...this.stopping, id]); this.$emit("cancel", id); },
  },
};
