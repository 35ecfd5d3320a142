// The service's API, called with the key of this tab.

/** Where the service is, with a proxy's prefix, without a slash at its end. */
export const ROOT = new URL("../..", import.meta.url).href.replace(/\/$/, "");

// A browser keeps it until the tab is closed. Another service may have another path on this host.
const SLOT = `key of ${ROOT}`;

export const key = {
  get: () => sessionStorage.getItem(SLOT),
  set: (value) => sessionStorage.setItem(SLOT, value),
  remove: () => sessionStorage.removeItem(SLOT),
};

/** A request that was refused, or that did not reach the service (`status` 0). */
export class Refusal extends Error {
  /**
   * @param {string} message
   * @param {{status: number, kind?: string, retryAfterS?: number}} facts
   *   `kind`: the last segment of the problem's type
   */
  constructor(message, { status, kind = "", retryAfterS = 0 }) {
    super(message);
    Object.assign(this, { status, kind, retryAfterS });
  }
}

// Asks the person for a key, and settles when there is one (true) or none is given (false).
let askForKey = async () => false;
let asking = null;

export function onKeyNeeded(ask) {
  askForKey = ask;
}

/**
 * The response to a request; 304 is one too.
 *
 * @param {string} path with the first slash
 * @param {{method?: string, body?: unknown, raw?: BodyInit, accept?: string, headers?: object,
 *   signal?: AbortSignal}} options `body`: sent as JSON; `raw`: sent as it is
 * @throws {Refusal} otherwise
 */
export async function request(path, options = {}) {
  for (;;) {
    const response = await send(path, options);
    if (response.ok || response.status === 304) return response;
    if (response.status === 401) {
      asking ??= askForKey(key.get() !== null).finally(() => (asking = null));
      if (await asking) continue;
    }
    throw await refusal(response);
  }
}

/** The JSON of the response to a request. */
export async function json(path, options) {
  return (await request(path, options)).json();
}

async function send(path, { method = "GET", body, raw, accept, headers = {}, signal }) {
  const all = { Accept: accept ?? "application/json", ...headers };
  if (key.get() !== null) all.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  try {
    return await fetch(ROOT + path, {
      method,
      headers: all,
      body: body === undefined ? raw : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("The service cannot be reached.", { status: 0 });
  }
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const faults = (problem.errors ?? []).map((fault) => fault.detail).filter(Boolean);
  const message = [problem.title, problem.detail, ...faults].filter(Boolean).join(": ");
  return new Refusal(message || `The service answered with status ${response.status}.`, {
    status: response.status,
    kind: String(problem.type ?? "")
      .split("/")
      .pop(),
    retryAfterS: Number(response.headers.get("Retry-After")) || 0,
  });
}

/** The path of a dialogue in the API. */
export const dialoguePath = (id) => `/dialogues/${encodeURIComponent(id)}`;

/** The address of a dialogue's page. Its id is in the fragment, which no server sees or logs. */
export const conversationAddress = (id) => `${ROOT}/console/conversation#${encodeURIComponent(id)}`;
