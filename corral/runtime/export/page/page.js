"use strict";
(function () {
  const form = document.getElementById("filter");
  const effects = Array.from(document.querySelectorAll(".effect"));
  const words = document.getElementById("words");
  const count = document.getElementById("count");
  const texts = new Map();

  function text(effect) {
    if (!texts.has(effect)) texts.set(effect, effect.textContent.toLowerCase());
    return texts.get(effect);
  }

  function chosen(name) {
    const boxes = form.querySelectorAll('input[name="' + name + '"]:checked');
    return new Set(Array.from(boxes, function (box) { return box.value; }));
  }

  function filter() {
    const kinds = chosen("kind"), statuses = chosen("status");
    const critical = chosen("only").has("critical");
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const effect of effects) {
      const fits = kinds.has(effect.dataset.kind) && statuses.has(effect.dataset.status)
        && (!critical || "critical" in effect.dataset)
        && wanted.every(function (word) { return text(effect).includes(word); });
      effect.hidden = !fits;
      if (fits) shown += 1;
    }
    count.textContent = shown + " of " + effects.length + " shown";
    document.getElementById("none").hidden = shown > 0;
  }

  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const effect = target && target.closest(".effect");
    if (!effect) return;
    if (effect.hidden) { form.reset(); filter(); }
    effect.firstElementChild.open = true;
    effect.scrollIntoView({ block: "start" });
  }

  function openAll(open) {
    for (const effect of effects) if (!open || !effect.hidden) effect.firstElementChild.open = open;
  }

  let waiting = 0;
  words.addEventListener("input", function () { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  form.addEventListener("change", filter);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  document.getElementById("open").addEventListener("click", function () { openAll(true); });
  document.getElementById("close").addEventListener("click", function () { openAll(false); });
  addEventListener("hashchange", reveal);
  form.hidden = false;
  filter();
  reveal();
})();
