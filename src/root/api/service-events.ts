import { pause } from "../../base/clock.ts";
import type { ApiDeps } from "./route.ts";
import { serviceDocumentOf } from "./service-view.ts";

/** Proxies and clients take a silent connection for a dead one. */
const SIGN_OF_LIFE_MS = 15_000;

/**
 * Server-sent events: the service's document now and whenever it differs from the last one sent. Changes that come while
 * one is being sent become one. Ends when the service is gone, or with the signal.
 */
export async function* serviceEvents(
  deps: Pick<ApiDeps, "store" | "orchestration" | "changes" | "clock">,
  serviceId: string,
  signal: AbortSignal,
): AsyncGenerator<string, void, void> {
  let hasChanged = true;
  let wake = () => {};
  const unsubscribe = deps.changes.onService(serviceId, () => {
    hasChanged = true;
    wake();
  });
  let last = "";
  try {
    while (!signal.aborted) {
      hasChanged = false;
      const service = await deps.store.service(serviceId);
      if (!service) return;
      const document = JSON.stringify(await serviceDocumentOf(deps, service));
      yield document === last ? ": nothing new\n\n" : `event: service\ndata: ${document}\n\n`;
      last = document;
      if (hasChanged) continue;
      const woken = new AbortController();
      wake = () => woken.abort();
      await pause(deps.clock, SIGN_OF_LIFE_MS, AbortSignal.any([signal, woken.signal]));
    }
  } finally {
    unsubscribe();
  }
}
