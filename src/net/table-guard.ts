/** Puts our nft tables right as soon as another program has changed them: what is missing lets nothing through, or too much. */
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { Reconciler } from "../base/reconciler.ts";
import { backoffMs } from "../base/retry.ts";
import type { Nft } from "./nft.ts";
import type { TableChange } from "./nft-events.ts";

/** What is changed together comes in several transactions sometimes. */
const DEBOUNCE_MS = 50;
/** A program that changes our tables again and again must not keep us busy. */
const AGAIN = { firstMs: 200, maxMs: 10_000 };
const CALM_MS = 60_000;
const NEVER_MS = 3_600_000;

export interface TableGuardOptions {
  /** Makes the tables anew, in one transaction. */
  readonly repair: () => Promise<void>;
  readonly log: Logger;
  readonly clock: Clock;
}

export class TableGuard {
  readonly #options: TableGuardOptions;
  readonly #loop: Reconciler;
  #nft: Nft | undefined;
  #end: (() => void) | undefined;
  /** The last one that has not been undone. */
  #change: Partial<TableChange> | undefined;
  #repairs = 0;
  #repairedAt = Number.NEGATIVE_INFINITY;

  constructor(options: TableGuardOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#loop = new Reconciler({
      ...{ name: "table guard", pass: () => this.#pass(), debounceMs: DEBOUNCE_MS, resyncMs: NEVER_MS, log, clock },
    });
  }

  open(nft: Nft): Promise<void> {
    this.#nft = nft;
    return this.watch();
  }

  /** Repeatable: when the watch was lost it begins anew. Without one, the tables are put right by the next check. */
  async watch(): Promise<void> {
    const nft = this.#nft;
    if (this.#end || !nft?.watch) return;
    try {
      const end = await nft.watch({ onForeign: (change) => this.#note(change), onLost: () => this.#lost() });
      if (this.#nft === nft && !this.#end) this.#end = end;
      else end();
    } catch (error) {
      this.#options.log.warn({ error }, "changes of our packet rules by other programs are noticed late");
    }
  }

  close(): void {
    this.#nft = undefined;
    this.#end?.();
    this.#end = undefined;
  }

  /** Ends the watch when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#loop.run(signal);
    this.close();
  }

  #lost(): void {
    this.#end = undefined;
    // What was not told may have been a change of ours; what comes from now on must be told before it is undone.
    void this.watch().then(() => this.#note({}));
  }

  #note(change: Partial<TableChange>): void {
    this.#change = change;
    this.#loop.trigger();
  }

  async #pass(): Promise<{ againInMs: number } | undefined> {
    const { repair, clock, log } = this.#options;
    const change = this.#change;
    if (!change) return undefined;
    const now = clock.monotonic();
    if (now - this.#repairedAt > CALM_MS) this.#repairs = 0;
    const waitMs = this.#repairs === 0 ? 0 : this.#repairedAt + backoffMs(this.#repairs, AGAIN) - now;
    if (waitMs > 0) return { againInMs: waitMs };
    await repair();
    this.#repairs += 1;
    this.#repairedAt = clock.monotonic();
    if (this.#change === change) this.#change = undefined;
    const { program, pid } = change;
    const repairs = this.#repairs;
    if (program === undefined)
      log.warn({ repairs }, "too many changes of packet rules at once to see each; made ours anew");
    else log.warn({ program, pid, repairs }, "another program changed our packet rules; repaired");
    return undefined;
  }
}
