// What scripts add to pages that work without them: a button that copies a command, and a word where a page that
// renews itself has lost its server. A page in a hidden tab asks for nothing.
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
