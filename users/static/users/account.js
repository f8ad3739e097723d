// What a link in a mail leads to. The token is in the fragment: it is taken out of the address at once, so that
// it stays in no history, and goes nowhere but into the body of one POST. All sentences stand in the page.
"use strict";

const part = (id) => document.getElementById(id);
const form = part("form");
const button = form.querySelector("button");
const password = part("password");
const again = part("again");
const OF_THE_PASSWORD = new Set([
  "empty", "different", "too_short", "too_long", "common", "breached", "personal", "context",
]);
let token = "";

function take() {
  token = new URLSearchParams(location.hash.slice(1)).get("token") || token;
  history.replaceState(null, "", location.pathname + location.search);
  part("done").hidden = true;
  form.hidden = !token;
  button.disabled = !token;
  say(token ? null : "no_token");
}

function say(problem) {
  const sentences = [...part("problems").children];
  const named = (name) => sentences.find((each) => each.dataset.problem === name);
  const box = part("problem");
  box.hidden = !problem;
  box.textContent = problem ? (named(problem) || named("other")).textContent : "";
  for (const field of document.querySelectorAll("#password, #again")) {
    field.setAttribute("aria-invalid", String(OF_THE_PASSWORD.has(problem)));
  }
  if (problem) box.focus();
}

function fault() {
  if (!password) return null;
  if (!password.value) return "empty";
  return password.value === again.value ? null : "different";
}

async function problemOf(response) {
  if (response.status === 429) return "rate_limited";
  if (response.status >= 500) return "unavailable";
  try {
    const problem = await response.json();
    return Array.isArray(problem.details) ? problem.details[0].code : problem.error;
  } catch {
    return "other";
  }
}

async function send(event) {
  event.preventDefault();
  const wrong = fault();
  if (wrong || button.disabled) {
    if (wrong) say(wrong);
    return;
  }
  button.disabled = true;
  say(null);
  try {
    const response = await fetch(form.dataset.postsTo, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(password ? { token, new_password: password.value } : { token }),
      credentials: "omit",
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
    if (response.ok) finish();
    else say(await problemOf(response));
  } catch {
    say("network");
  }
  button.disabled = !token;
}

function finish() {
  token = "";
  form.reset();
  form.hidden = true;
  part("done").hidden = false;
  part("done").focus();
}

if (password) {
  part("show").addEventListener("change", (event) => {
    for (const field of [password, again]) field.type = event.target.checked ? "text" : "password";
  });
}
form.addEventListener("submit", send);
addEventListener("hashchange", take);
take();
