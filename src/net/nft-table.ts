import { formatAddress } from "../addressing/subnet.ts";
import { type Clock, pause } from "../base/clock.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { asChanges, Balancing } from "./balancing.ts";
import { compileBalancing } from "./balancing-text.ts";
import { compile, compileChange } from "./compile.ts";
import type { KernelState } from "./kernel-state.ts";
import type { Nft } from "./nft.ts";
import type { ServiceRoutes } from "./overlay.ts";
import { fingerprint } from "./table-fingerprint.ts";

/** So many addresses change in one transaction, that is without a look at anything else: about 30 ms. */
const CHUNK = 1000;
const REFUSED_MS = 5000;

/**
 * Our tables in the kernel, and the state that they are compiled from. Until `open` only the state changes; from then on changes
 * are applied one after the other.
 */
export class NftTable {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #queue = new KeyedQueue();
  readonly #balancing = new Balancing();
  #state: KernelState;
  #nft: Nft | undefined;
  /** Of shared services: numbers of sandboxes for which there are a set and a chain. */
  #sizes = new Set<number>();
  /** Refused addresses, and when that passes; monotonic ms, oldest first. */
  readonly #refusedUntil = new Map<number, number>();
  #fingerprint = "";
  /** A change was lost, and so was the attempt to make the tables anew: the kernel has something else than we think. */
  #isStale = false;

  constructor({ log, clock, state }: { log: Logger; clock: Clock; state: KernelState }) {
    this.#log = log;
    this.#clock = clock;
    this.#state = state;
  }

  get state(): KernelState {
    return this.#state;
  }

  /** Whether the address stands for something, be it for nobody at the moment. */
  isKnown(address: number): boolean {
    return this.#balancing.byAddress.has(address);
  }

  /** Replaces whatever is there by the whole state. */
  open(nft: Nft): Promise<void> {
    this.#nft = nft;
    return this.#queue.run("table", () => this.#replace());
  }

  close(): void {
    this.#nft = undefined;
  }

  /** Makes the tables anew by what we know. */
  replace(): Promise<void> {
    return this.#queue.run("table", () => this.#replace());
  }

  /** The answer of a `list …` command, as nft's JSON; undefined before `open`. */
  list(command: string): Promise<unknown> {
    return this.#queue.run("table", async () => await this.#nft?.list(command));
  }

  /** @param edit pure; what it throws is thrown here, and nothing has changed then. */
  change(edit: (state: KernelState) => KernelState): Promise<void> {
    return this.#queue.run("table", async () => {
      const previous = this.#state;
      const next = edit(previous);
      if (next === previous) return;
      this.#state = next;
      try {
        if (JSON.stringify(next.frame) !== JSON.stringify(previous.frame)) await this.#replace();
        else await this.#apply(compileChange(previous, next));
      } catch (error) {
        this.#state = previous;
        throw error;
      }
    });
  }

  setServices(services: readonly ServiceRoutes[]): Promise<void> {
    return this.#queue.run("table", async () => {
      const changes = this.#balancing.update(services);
      const accepted = changes.filter(({ address, to }) => to && this.#refusedUntil.delete(address));
      if (!this.#nft) return;
      if (this.#isStale) return await this.#replace();
      for (let start = 0; start < changes.length; start += CHUNK) {
        if (start > 0) await pause(this.#clock, 0, new AbortController().signal);
        // False: the tables were replaced instead, with all changes in them.
        if (!(await this.#apply(compileBalancing(changes.slice(start, start + CHUNK), this.#sizes)))) return;
      }
      // Added first: one that has passed by itself cannot be deleted.
      const elements = accepted.map(({ address }) => formatAddress(address)).join(", ");
      const verbs = accepted.length > 0 ? ["add", "delete"] : [];
      await this.#apply(verbs.map((verb) => `${verb} element ip oakestra refused { ${elements} }\n`).join(""));
    });
  }

  /** Nobody has the address: it is refused for a while, or until it stands for something. */
  refuse(address: number): Promise<void> {
    return this.#queue.run("table", async () => {
      if (this.isKnown(address)) return;
      const now = this.#clock.monotonic();
      for (const [other, until] of this.#refusedUntil) {
        if (until > now) break;
        this.#refusedUntil.delete(other);
      }
      this.#refusedUntil.delete(address);
      this.#refusedUntil.set(address, now + REFUSED_MS);
      const timeout = `timeout ${REFUSED_MS / 1000}s`;
      await this.#apply(`add element ip oakestra refused { ${formatAddress(address)} ${timeout} }\n`);
    });
  }

  /** Finds what others did to our tables, and undoes it. True when there was such a thing. */
  check(): Promise<boolean> {
    return this.#queue.run("table", async () => {
      if (!this.#nft) return false;
      if (!this.#isStale && (await fingerprint(this.#nft)) === this.#fingerprint) return false;
      await this.#replace();
      return true;
    });
  }

  /** Another program may have flushed the tables: then the change fails, and the whole state repairs it. */
  async #apply(change: string): Promise<boolean> {
    if (!this.#nft || (change === "" && !this.#isStale)) return true;
    try {
      if (!this.#isStale) {
        await this.#nft.run(change);
        return true;
      }
    } catch (error) {
      this.#log.warn({ error }, "our nft tables are not as we left them; replacing them");
    }
    await this.#replace();
    return false;
  }

  async #replace(): Promise<void> {
    if (!this.#nft) return;
    const sizes = new Set<number>();
    const services = compileBalancing(asChanges(this.#balancing.byAddress), sizes);
    this.#isStale = true;
    await this.#nft.run(compile(this.#state) + services);
    this.#sizes = sizes;
    this.#fingerprint = await fingerprint(this.#nft);
    this.#isStale = false;
  }
}
