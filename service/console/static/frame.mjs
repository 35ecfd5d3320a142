// The frame of every page: the key, what it may do, and the link past the navigation.

import { json, key, onKeyNeeded } from "./api.mjs";
import { announce, byId, element } from "./elements.mjs";

/**
 * What the caller may do. Asks for a key first where one is needed.
 *
 * @returns {Promise<{keys: boolean, tenant: string, scopes: string[], mayWrite: boolean}>}
 */
async function access() {
  onKeyNeeded(ask);
  const answer = await json("/console/access");
  show(answer);
  return { ...answer, mayWrite: answer.scopes.includes("write") };
}

function show({ keys, tenant, scopes }) {
  if (!keys) return;
  const forget = () => {
    key.remove();
    location.reload();
  };
  byId("caller").replaceChildren(
    element("span.muted", {}, `${tenant}, may ${scopes.join(" and ")}`),
    element("button.quiet", { type: "button", click: forget }, "Forget key"),
  );
}

function ask(wasRefused) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  byId("key-fault").textContent = wasRefused ? "The service does not accept this key." : "";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const settle = () => {
      const value = input.value.trim();
      input.value = "";
      const isGiven = dialog.returnValue === "use" && value !== "";
      if (isGiven && /^[\x21-\x7e]+$/.test(value)) key.set(value);
      else
        announce("Without a valid key, there is nothing to show. Reload to enter one.", {
          isFault: true,
        });
      resolve(isGiven && key.get() === value);
    };
    dialog.addEventListener("close", settle, { once: true });
  });
}

// No form is ever sent: `form-action` is 'none', and a key must not get into an address.
const dialog = byId("key-dialog");
dialog.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.close(event.submitter?.value ?? "use");
});

// Its target is no fragment: on the page of a conversation that is the conversation's id.
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

/** Run what a page does; what goes wrong is shown. */
export async function run(page) {
  try {
    await page(await access());
  } catch (error) {
    byId("main").removeAttribute("aria-busy");
    if (error.status !== 401) announce(error.message, { isFault: true });
    if (error.status === undefined) throw error;
  }
}
