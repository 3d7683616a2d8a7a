import type { FreeAddresses } from "../addressing/free-addresses.ts";
import { type Clock, pause } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";

export interface SandboxPoolOptions {
  /** How many sandboxes are kept ready. */
  readonly size: number;
  readonly free: Pick<FreeAddresses, "count" | "take" | "release">;
  /** Makes the sandbox of an address; leaves nothing behind when it fails. */
  readonly make: (address: number) => Promise<void>;
  /** The instance that took the last one comes first: filling up waits this long. */
  readonly refillDelayMs: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Sandboxes that are ready before anyone asks for them. Addresses in it are as good as free ones: it never causes exhaustion. */
export class SandboxPool {
  readonly #options: SandboxPoolOptions;
  readonly #stopped = new AbortController();
  #ready: number[] = [];
  #filling: Promise<void> | undefined;
  /** The sandbox that is being made for the pool right now. */
  #next: Promise<void> | undefined;

  constructor(options: SandboxPoolOptions) {
    this.#options = options;
  }

  get readyCount(): number {
    return this.#ready.length;
  }

  /** A made sandbox's address, or undefined when every address has an owner. */
  async take(): Promise<number | undefined> {
    // One that was begun earlier is there sooner than one begun now. Its failure is its maker's: we try ourselves then.
    if (this.#ready.length === 0) await this.#next?.catch(() => {});
    const ready = this.#ready.shift();
    if (ready !== undefined) return ready;
    // The last free addresses may be on their way into the pool right now.
    if (this.#options.free.count === 0) await this.#filling;
    return this.#options.free.count === 0 ? this.#ready.shift() : this.#make();
  }

  /** Takes back the address of a sandbox that was removed. */
  release(address: number): void {
    this.#options.free.release(address);
  }

  /** Takes out what nobody shall get any more. */
  discard(isUnwanted: (address: number) => boolean): readonly number[] {
    const unwanted = this.#ready.filter(isUnwanted);
    this.#ready = this.#ready.filter((address) => !isUnwanted(address));
    return unwanted;
  }

  /** Brings the pool to its size in the background. */
  refill(delayMs = this.#options.refillDelayMs): void {
    if (this.#stopped.signal.aborted) return;
    this.#filling ??= this.#fill(delayMs).finally(() => {
      this.#filling = undefined;
    });
  }

  /** Stops filling; resolves with the addresses of the sandboxes that nobody took. */
  async stop(): Promise<readonly number[]> {
    this.#stopped.abort();
    await this.#filling;
    return this.#ready;
  }

  async #fill(delayMs: number): Promise<void> {
    const { size, clock, log } = this.#options;
    const { signal } = this.#stopped;
    await pause(clock, delayMs, signal);
    while (!signal.aborted && this.#ready.length < size && this.#options.free.count > 0) {
      this.#next = this.#prepare();
      try {
        await this.#next;
      } catch (error) {
        log.warn({ error }, "cannot prepare a sandbox");
        return;
      } finally {
        this.#next = undefined;
      }
    }
  }

  async #prepare(): Promise<void> {
    this.#ready.push(await this.#make());
  }

  async #make(): Promise<number> {
    const { free, make } = this.#options;
    const address = free.take()!;
    try {
      await make(address);
      return address;
    } catch (error) {
      free.release(address);
      throw error;
    }
  }
}
