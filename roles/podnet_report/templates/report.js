"use strict";
// The page can be read without this: it opens what a link points to, finds hosts, and prints all.
(function () {
  function reveal() {
    const name = decodeURIComponent(location.hash.slice(1));
    let at = name && document.getElementById(name);
    while (at) {
      if (at.tagName === "DETAILS") at.open = true;
      at = at.parentElement;
    }
  }
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (one) { one.open = true; });
  });

  // An address of IPv4 or IPv6 as bits, "" for anything else.
  function bits(text) {
    if (/^\d+(\.\d+){3}$/.test(text)) {
      return text.split(".").map(function (n) { return (+n).toString(2).padStart(8, "0"); }).join("");
    }
    if (!/^[0-9a-f:]+$/i.test(text) || !text.includes(":")) return "";
    const halves = text.split("::").map(function (half) { return half ? half.split(":") : []; });
    const missing = 8 - halves.reduce(function (sum, half) { return sum + half.length; }, 0);
    const words = halves.length === 2 ? halves[0].concat(Array(Math.max(0, missing)).fill("0"), halves[1]) : halves[0];
    return words.map(function (w) { return parseInt(w, 16).toString(2).padStart(16, "0"); }).join("");
  }
  function holds(cidr, wanted) {
    const parts = cidr.split("/");
    const own = bits(parts[0]);
    return own !== "" && own.length === wanted.length && own.slice(0, +parts[1]) === wanted.slice(0, +parts[1]);
  }
  const input = document.getElementById("find");
  const said = document.getElementById("found");
  const rows = Array.from(document.querySelectorAll("[data-host]"));
  document.getElementById("finder").hidden = false;
  input.addEventListener("input", function () {
    const text = input.value.trim().toLowerCase();
    const wanted = bits(text);
    let count = 0;
    rows.forEach(function (row) {
      const subnets = row.dataset.subnets.split(" ");
      const match = !text || row.dataset.host.toLowerCase().includes(text) ||
        (wanted !== "" && subnets.some(function (one) { return one && holds(one, wanted); }));
      row.hidden = !match;
      if (match && row.tagName === "TR") count += 1;
    });
    said.textContent = text ? count + (count === 1 ? " host" : " hosts") : "";
  });
})();
