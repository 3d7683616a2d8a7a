/** Collects the votes of a placement plugin before a round of placement, which itself waits for nobody. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { openPlacementPlugin, type PlacementPluginPort, type PluginReply } from "./placement-plugin.ts";

/** A deployment waits for it: a plugin that needs longer does without a say. */
const TIMEOUT_MS = 500;

export class PlacementVoter {
  readonly #plugin: PlacementPluginPort;

  /** @param text of the setting: a command, or the URL of a service */
  constructor(text: string, { log, clock }: { readonly log: Logger; readonly clock: Clock }) {
    this.#plugin = openPlacementPlugin(text, { timeoutMs: TIMEOUT_MS, log, clock });
  }

  /** Never rejects: what went wrong is a vote too. */
  async votes(questions: ReadonlyMap<string, unknown>): Promise<Map<string, PluginReply>> {
    const asked = [...questions].map(async ([id, question]) => [id, await this.#plugin.ask(question)] as const);
    return new Map(await Promise.all(asked));
  }

  close(): void {
    this.#plugin.close();
  }
}
