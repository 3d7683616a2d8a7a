/** Tells the cluster what this worker wants to know of routes: everything at connect, then changes, in order. */
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { Reconciler } from "../../base/reconciler.ts";
import type { Interest } from "../../protocol/route.ts";
import { interestParts } from "../../protocol/route-parts.ts";
import type { RouteTable } from "../routes/route-table.ts";

const RESYNC_MS = 3_600_000;

export interface InterestSenderOptions {
  readonly routes: Pick<RouteTable, "connected" | "takeChanges">;
  readonly isConnected: () => boolean;
  /** Resolves when the broker has it. @throws AppError MQTT_OFFLINE */
  readonly send: (interest: Interest) => Promise<void>;
  readonly log: Logger;
  readonly clock: Clock;
}

export class InterestSender {
  readonly #options: InterestSenderOptions;
  readonly #loop: Reconciler;
  #isFullDue = true;

  constructor(options: InterestSenderOptions) {
    this.#options = options;
    this.#loop = new Reconciler({
      name: "interest",
      pass: async () => {
        await this.#send();
        return undefined;
      },
      ...{ log: options.log, clock: options.clock, resyncMs: RESYNC_MS },
    });
  }

  connected(): void {
    this.#isFullDue = true;
    this.trigger();
  }

  trigger(): void {
    this.#loop.trigger();
  }

  run(signal: AbortSignal): Promise<void> {
    return this.#loop.run(signal);
  }

  async #send(): Promise<void> {
    const { routes, isConnected, send, log } = this.#options;
    if (!isConnected()) return;
    const interest = this.#isFullDue ? routes.connected() : routes.takeChanges();
    this.#isFullDue = false;
    try {
      for (const part of interest ? interestParts(interest) : []) await send(part);
    } catch (error) {
      // Lost with the connection; the next one begins with everything.
      log.debug({ error }, "interest not delivered");
      this.#isFullDue = true;
    }
  }
}
