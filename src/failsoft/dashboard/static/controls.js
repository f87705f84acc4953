// What an operator may do, each asked about once more. Requests carry a header that no other site's form can send.

import { $, h, say } from "./dom.js";

const ACTIONS = [
  ["force_open", "Force open", "Refuse every call until an operator says otherwise?"],
  ["force_closed", "Force closed", "Close the breaker now, as if nothing had happened?"],
  ["reset", "Reset", "Close the breaker with fresh counts?"],
  ["metrics_only", "Metrics only", "Let every call go and count, but never trip?"],
  ["disable", "Disable", "Let every call go past the breaker, counting nothing?"],
];

let asked = Promise.resolve();

// A dialog has closed before its "close" is heard; whoever asks again in between waits for it, or would hear it in place of his own.
async function ask(title, words) {
  await asked;
  const dialog = $("ask");
  if (dialog.open) return false;
  say($("ask-title"), title);
  say($("ask-words"), words);
  dialog.returnValue = "no";
  dialog.showModal();
  $("ask-no").focus();
  asked = new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
  return asked;
}

async function send(asked, told) {
  say(told, "…");
  try {
    const answer = await fetch("api/control", {
      method: "POST",
      headers: { "content-type": "application/json", "x-failsoft-control": "1" },
      body: JSON.stringify(asked),
    });
    const body = await answer.json();
    say(told, answer.ok ? `Done: ${body.done.action}` : `Refused: ${body.error}`);
  } catch {
    say(told, "The server did not answer; nothing is known of what became of it.");
  }
}

export function controls(about, id, name) {
  if (!about.controls) {
    const words = "Read-only: this dashboard was started without controls.";
    return h("p", { class: "quiet", id: "no-controls" }, words);
  }
  const told = h("p", { role: "status", class: "told" });
  const button = (title, words, asked, kind = "") => h("button", { type: "button", class: kind, "data-action": asked().action, onclick: async () => {
    if (await ask(`${title}: ${name}`, words)) await send({ id, ...asked() }, told);
  } }, title);
  const share = h("select", { id: "share", "aria-label": "Share of calls that may go" },
    ...[0, 0.1, 0.25, 0.5, 0.75, 0.9].map((v) => h("option", { value: v, selected: v === 0.5 }, `${v * 100} %`)));
  return h("div", { class: "controls", role: "group", "aria-label": "Controls" },
    ...ACTIONS.map(([action, title, words]) => button(title, words, () => ({ action }), action === "force_open" ? "danger" : "")),
    h("span", { class: "pair" }, share, button("Degrade", "Let only this share of the calls go?", () => ({ action: "degrade", capacity: Number(share.value) }))),
    button("End degraded mode", "Let all calls go again, as far as this dashboard had limited them?", () => ({ action: "restore" })),
    told);
}
