export { Drafts, setting } from "./drafts.js";
export { newKey } from "./dom.js";
export { onSocket } from "./socket.js";
export { Composer } from "./composer.js";
export { MessageList } from "./list.js";
export { Pane } from "./pane.js";
export { Sidebar } from "./sidebar.js";
