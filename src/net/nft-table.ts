import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { compile, compileChange, type KernelState } from "./compile.ts";
import type { Nft } from "./nft.ts";

/** Our tables in the kernel, and the state that they were compiled from. Changes are applied one after the other. */
export class NftTable {
  readonly #nft: Nft;
  readonly #log: Logger;
  readonly #queue = new KeyedQueue();
  #state: KernelState;

  constructor({ nft, log, state }: { nft: Nft; log: Logger; state: KernelState }) {
    this.#nft = nft;
    this.#log = log;
    this.#state = state;
  }

  get state(): KernelState {
    return this.#state;
  }

  /** Replaces whatever is there by the whole state. */
  replace(): Promise<void> {
    return this.#queue.run("table", () => this.#nft.run(compile(this.#state)));
  }

  /** @param edit pure; what it throws is thrown here, and nothing has changed then. */
  change(edit: (state: KernelState) => KernelState): Promise<void> {
    return this.#queue.run("table", async () => {
      const next = edit(this.#state);
      const text = compileChange(this.#state, next);
      if (text !== "") await this.#apply(text, next);
      this.#state = next;
    });
  }

  /** Another program may have flushed the tables: then the change fails, and the whole state repairs it. */
  async #apply(change: string, next: KernelState): Promise<void> {
    try {
      await this.#nft.run(change);
    } catch (error) {
      this.#log.warn({ error }, "our nft tables are not as we left them; replacing them");
      await this.#nft.run(compile(next));
    }
  }
}
