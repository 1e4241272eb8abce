// The right pane: the plan that ticks itself, and what the last answer used.
import { duration, fill } from "./dom.js";

const MARKS = { todo: "○", doing: "●", done: "✓", failed: "✕" };

export const Pane = {
  props: ["words", "plan", "used", "job"],
  template: `
    <aside class="side" :aria-label="words.pane">
      <section>
        <h2>{{ words.plan }}</h2>
        <ol v-if="plan.length" class="plan">
          <li v-for="item in plan" class="plan-item" :class="item.state"><span class="mark" aria-hidden="true">{{ marks[item.state] || "○" }}</span><span class="sr">{{ words["plan_" + item.state] }}</span><span>{{ item.text }}</span></li>
        </ol>
        <p v-else class="faint small">{{ words.plan_empty }}</p>
      </section>
      <section v-if="used">
        <h2>{{ words.used }}</h2>
        <dl class="used">
          <template v-for="row in rows" :key="row[0]"><dt>{{ row[0] }}</dt><dd>{{ row[1] }}</dd></template>
          <template v-if="job"><dt>{{ words.used_way }}</dt><dd><a :href="'/trace/' + job">{{ words.trace_whole }}</a></dd></template>
        </dl>
      </section>
    </aside>`,
  data: () => ({ marks: MARKS }),
  computed: {
    rows() {
      const { words, used } = this, rows = [];
      const number = (n) => n.toLocaleString(document.documentElement.lang || undefined);
      if (used.own_ms !== null) rows.push([words.used_own, duration(used.own_ms)]);
      if (used.calls) rows.push([words.used_model, `${duration(used.model_ms)} · ${fill(words.used_calls, { n: used.calls })}`]);
      if (used.first_ms) rows.push([words.used_first, duration(used.first_ms)]);
      if (used.tools) rows.push([words.used_tools, `${duration(used.tool_ms)} · ${fill(words.used_calls, { n: used.tools })}`]);
      if (used.tokens) rows.push([words.used_tokens, (used.estimated ? "≈ " : "") + number(used.tokens)]);
      if (used.cost) rows.push([words.used_cost, `¥${used.cost.toFixed(used.cost < 0.1 ? 4 : 2)}`]);
      return rows;
    },
  },
};
