/** Tells the cluster what this worker wants to know of routes: everything at connect, then changes, in order. */
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { Reconciler } from "../../base/reconciler.ts";
import type { Interest } from "../../protocol/route.ts";
import { interestParts } from "../../protocol/route-parts.ts";
import { InFlight } from "../in-flight.ts";
import type { RouteTable } from "../routes/route-table.ts";

const RESYNC_MS = 3_600_000;
/** Over a slow link a packet that waits for a route must not wait for the acknowledgement of another question first. */
const MAX_IN_FLIGHT = 8;

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
  readonly #inFlight = new InFlight(MAX_IN_FLIGHT);
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
    await this.#inFlight.room();
    if (!isConnected()) return;
    const interest = this.#isFullDue ? routes.connected() : routes.takeChanges();
    this.#isFullDue = false;
    if (!interest) return;
    this.#inFlight.add(Promise.all(interestParts(interest).map(send)), (error) => {
      // Lost with the connection; the next one begins with everything.
      log.debug({ error }, "interest not delivered");
      this.#isFullDue = true;
    });
  }
}
