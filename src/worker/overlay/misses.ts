/** First packets to addresses that no route knows: asks for their routes, or has them refused. */
import { deadline } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Overlay } from "../../net/overlay.ts";
import { interestIn } from "../../protocol/route.ts";
import type { RouteTable } from "../routes/route-table.ts";

/** The kernel holds the packets no longer. */
const HELD_MS = 2000;

export interface MissesOptions {
  readonly routes: Pick<RouteTable, "want" | "settled" | "byAddress">;
  readonly overlay: Pick<Overlay, "refuse">;
  /** There is a route for the address, which must get into the kernel. */
  readonly onResolved: (address: string) => void;
  readonly log: Logger;
}

export class Misses {
  readonly #options: MissesOptions;
  readonly #stopping = new AbortController();

  constructor(options: MissesOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** @param source whose packets they are */
  miss(address: string, source: string): void {
    this.#resolve(address, source).catch((error: unknown) => {
      if (!this.#stopping.signal.aborted)
        this.#options.log.debug({ address, reason: describeError(error) }, "address not resolved");
    });
  }

  async #resolve(address: string, source: string): Promise<void> {
    const { routes, overlay, onResolved } = this.#options;
    const key = interestIn.address(address);
    if (routes.want(key, source) === "asked") await routes.settled(key, deadline(HELD_MS, this.#stopping.signal));
    if (routes.byAddress(address)) onResolved(address);
    else await overlay.refuse(address);
  }
}
