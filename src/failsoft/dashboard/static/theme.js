// Before the page is painted, so that it does not flash in the other theme.
(() => {
  "use strict";
  try {
    const theme = localStorage.getItem("failsoft-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch { /* no storage here: auto */ }
})();
