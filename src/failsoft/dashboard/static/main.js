// The page: what is asked for by the address, and frames to what shows them.

import { $, say } from "./dom.js";
import { announce, focusCard, rememberSparks, showCards, walk } from "./cards.js";
import { Detail } from "./detail.js";
import { Feed } from "./stream.js";
import { showTiles } from "./tiles.js";
import { clock } from "./words.js";

let about = {}, last = null, detail = null, opened = null, history = null;

const wantedId = () => { const found = /^#\/i\/([0-9a-f]{12})$/.exec(location.hash); return found ? found[1] : null; };
const wanted = () => $("filter").value.trim().toLowerCase();

function route() {
  const id = wantedId();
  if (id === opened && id !== null) return;
  const before = opened;
  if (detail) detail.close();
  detail = null;
  opened = id;
  history = null;
  $("overview").hidden = id !== null;
  $("detail").hidden = id === null;
  document.title = "failsoft";
  if (feed.source || id !== null) feed.open(id);
  if (id !== null) { window.scrollTo(0, 0); if (last) open(last); }
  else { if (last) showCards(last, wanted()); if (before) focusCard(before); }
}

function open(frame) {
  const card = frame.cards.find((one) => one.id === opened);
  if (!card) {
    if (!detail) say($("detail"), "No integration of this address is known. Esc: all integrations.");
    return;
  }
  if (!detail && about.step) {
    detail = new Detail($("detail"), card, about);
    detail.heading.focus({ preventScroll: true });
  }
  if (!detail) return;
  document.title = `${card.name.slice(0, 60)}: failsoft`;
  detail.show(card, frame.now);
  if (history && history.id === opened) { detail.fill(history, card, frame.now, frame.audit); history = null; }
  if (frame.detail && frame.detail.id === opened) detail.fill(frame.detail, card, frame.now, frame.audit);
}

function banner(words) {
  $("banner").hidden = !words;
  say($("banner"), words || "");
}

const feed = new Feed({
  onHistory(told) {
    about = told;
    say($("source"), told.source + (told.controls ? " · controls on" : " · read-only"));
    rememberSparks(told.sparks);
    history = told.detail || null;
  },
  onFrame(frame) {
    last = frame;
    showTiles(frame.summary);
    announce(frame.cards);
    if (opened === null) showCards(frame, wanted());
    else open(frame);
    banner(frame.trouble);
    document.documentElement.dataset.ready = "yes";
  },
  onLink(link, seconds) {
    $("link").dataset.link = link;
    document.documentElement.dataset.link = link;
    if (link === "live") say($("link-words"), seconds > 1.5 ? `live, every ${seconds.toFixed(1)} s` : "live");
    else if (link === "old") {
      say($("link-words"), "no data");
      banner(`No data since ${last ? clock(last.now) : "the start"}: what you see is old. Trying again.`);
    } else say($("link-words"), "connecting");
  },
});

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("failsoft-theme", theme); } catch { /* kept for this page only */ }
  say($("theme"), `Theme: ${theme}`);
  if (detail) detail.retheme();
}

$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme || "auto") + 1) % 3]));
say($("theme"), `Theme: ${document.documentElement.dataset.theme || "auto"}`);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => detail && detail.retheme());
$("filter").addEventListener("input", () => last && showCards(last, wanted()));
$("cards").addEventListener("keydown", walk);
addEventListener("hashchange", () => { if (location.hash !== "#main") route(); });
addEventListener("keydown", (event) => {
  if ($("ask").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && opened !== null) location.hash = "#/";
  else if (event.key === "Escape" && typing) { $("filter").value = ""; if (last) showCards(last, ""); $("filter").blur(); }
  else if (event.key === "/" && !typing && opened === null) { event.preventDefault(); $("filter").focus(); }
});

route();
if (!feed.source) feed.open(opened);
