// What scripts add to pages that work without them: a button that copies a command, a page that asks in a dialog, and
// a word where a page that renews itself has lost its server. A page in a tab that isn't looked at asks for nothing.
(() => {
  const each = (root, select, act) => root.querySelectorAll(select).forEach(act);
  const show = (root) => each(root, "[data-copy][hidden]", (one) => { if (navigator.clipboard) one.hidden = false; });
  show(document);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(button.dataset.copy).then(() => {
      const word = button.firstChild;
      const before = word.data;
      word.data = "Copied";
      setTimeout(() => { word.data = before; }, 1500);
    });
  });
  // A page that asks is shown over the one that leads to it; where that fails, it is simply opened.
  document.addEventListener("click", async (event) => {
    const close = event.target.closest?.("dialog [data-close]");
    if (close) {
      event.preventDefault();
      close.closest("dialog").close();
    }
    const link = event.target.closest?.("a[data-dialog]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    try {
      const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
      const asked = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("ask");
      const dialog = document.createElement("dialog");
      dialog.setAttribute("aria-labelledby", "ask-head");
      dialog.append(document.adoptNode(asked));
      dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
      document.body.append(dialog);
      dialog.showModal();
    } catch {
      location.assign(link.href);
    }
  });
  const stale = (said) => {
    const place = document.getElementById("stale");
    if (place && place.textContent !== said) place.textContent = said;
  };
  let last = Date.now();
  const lost = () => stale(`No answer from the console since ${Math.round((Date.now() - last) / 1000)} s: what is shown is older`);
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && event.target.matches?.("[data-live]")) event.preventDefault();
  });
  document.addEventListener("htmx:after:swap", () => { last = Date.now(); stale(""); show(document); });
  document.addEventListener("htmx:error", lost);
  document.addEventListener("htmx:response:error", lost);
})();
