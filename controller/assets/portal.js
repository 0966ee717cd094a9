// Makes *deliver now* live, and looks for news. Without it every form works as forms do.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  let timer;

  const isWorking = () => live.querySelector("form[data-working]") !== null;

  // The server escaped everything in it; scripts do not run from it.
  const show = (html) => {
    const open = [...live.querySelectorAll("details[open]")].map((it) => it.id);
    const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
    live.innerHTML = html;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const take = async (answer) => {
    if (answer.status === 401 || answer.status === 403) return location.reload();
    if (answer.ok && !answer.redirected) show(await answer.text());
  };

  const look = async () => {
    try {
      if (!document.hidden || isWorking()) await take(await fetch("/live", { cache: "no-store" }));
    } catch {
      // Away for a moment: the next look may find it.
    }
    plan();
  };

  const plan = () => {
    clearTimeout(timer);
    timer = setTimeout(look, isWorking() ? 700 : 10000);
  };

  live.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-live]")) return;
    event.preventDefault();
    if (isWorking()) return;
    form.querySelector("button").setAttribute("aria-busy", "true");
    const body = new URLSearchParams(new FormData(form));
    try {
      await take(await fetch(form.action, { method: "POST", body, headers: { "X-Live": "yes" } }));
    } catch {
      form.submit();
    }
    plan();
  });

  // PEM as it is, also in the UTF-16 that PowerShell writes. DER, which begins with a SEQUENCE of two octets' length, as PEM.
  function asText(bytes) {
    if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
    if (bytes[0] !== 0x30 || bytes[1] < 0x80) return new TextDecoder().decode(bytes);
    const base64 = btoa(String.fromCharCode(...bytes)).replace(/.{64}/g, "$&\n");
    return `-----BEGIN CERTIFICATE REQUEST-----\n${base64}\n-----END CERTIFICATE REQUEST-----\n`;
  }

  // A key in PEM says so; in DER it begins with a version, which a request does not.
  function isKey(bytes, text) {
    const header = bytes[1] < 0x80 ? 2 : 2 + (bytes[1] & 0x7f);
    return text.includes("PRIVATE KEY-----") || (bytes[0] === 0x30 && bytes[header] === 0x02);
  }

  // A file is read into the field above it, so that the form itself stays text.
  for (const part of document.querySelectorAll("[data-file]")) {
    const [field, input] = [document.getElementById(part.dataset.file), part.querySelector("input")];
    part.hidden = false;
    input.addEventListener("change", async () => {
      const file = input.files[0];
      if (!file || file.size > field.maxLength) return;
      const bytes = new Uint8Array(await file.arrayBuffer());
      const text = asText(bytes);
      const key = isKey(bytes, text);
      document.getElementById(part.dataset.refused).hidden = !key;
      if (key) input.value = "";
      field.value = key ? "" : text;
    });
  }

  document.addEventListener("visibilitychange", () => document.hidden || look());
  plan();
})();
