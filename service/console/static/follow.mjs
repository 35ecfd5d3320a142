// Follows a dialogue's events by `fetch`, in browsers and in Node 18 or later.

// The service sends something every 15 seconds; a connection that is silent for longer is dead.
const SILENCE_MS = 45_000;

/**
 * Yields each event once, in order, and goes on after any break.
 *
 * @param {string} service "https://erc.example.org", or with a prefix behind it
 * @param {string} dialogue id of the dialogue
 * @param {{key?: string, lastEventId?: string, signal?: AbortSignal,
 *   onConnection?: (isOpen: boolean) => void}} options
 *   `key`: sent in a header, never in the address; `lastEventId`: the `id` of the last event you
 *   have; `signal`: ends it; `onConnection`: called when the connection opens, and when it is lost.
 * @returns {AsyncGenerator<{id: string, event: string, data: object}>} ends after `erased`
 * @throws {Error} what is refused and will be again, with the problem as its `cause`
 */
export async function* follow(
  service,
  dialogue,
  { key, lastEventId, signal, onConnection = () => {} } = {},
) {
  const address = `${service}/dialogues/${encodeURIComponent(dialogue)}/events`;
  while (!signal?.aborted) {
    let waitMs = 1000;
    try {
      const headers = { Accept: "text/event-stream" };
      if (key) headers.Authorization = `Bearer ${key}`;
      if (lastEventId) headers["Last-Event-ID"] = lastEventId;
      const answer = await fetch(address, { headers, signal, cache: "no-store" });
      if (answer.status === 204) return; // erased, as you know
      if (!answer.ok) {
        const retryAfter = Number(answer.headers.get("Retry-After"));
        const problem = await answer.json().catch(() => ({}));
        const detail = problem.detail ?? `status ${answer.status}`;
        // A proxy whose service is away says so by the status alone.
        const passes = retryAfter > 0 || [502, 503, 504].includes(answer.status);
        if (!passes) throw new Error(detail, { cause: problem });
        waitMs = 1000 * (retryAfter || 1);
      } else {
        onConnection(true);
        for await (const found of events(answer.body)) {
          lastEventId = found.id;
          yield found;
          if (found.event === "erased") return;
        }
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!(error instanceof TypeError)) throw error;
      // `fetch` says so where the service is away or the connection broke, and where a browser
      // keeps the answer from the page, which it does not tell apart: come back.
    }
    if (signal?.aborted) return;
    onConnection(false);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** The events of one answer; comments and `retry` are passed over. */
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const silence = setTimeout(() => reader.cancel().catch(() => {}), SILENCE_MS);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return; // an event that is not whole comes again
      text += decoder.decode(value, { stream: true });
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const fields = {};
        for (const line of block.split("\n")) {
          const [, name, content] = /^(\w+): (.*)$/.exec(line) ?? [];
          if (name) fields[name] = content;
        }
        const { id, event, data } = fields;
        if (data) yield { id, event, data: JSON.parse(data) };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
