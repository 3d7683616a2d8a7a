import { KeyedQueue } from "../base/keyed-queue.ts";
import { readIpState } from "./ip-listing.ts";
import { type IpState, ipCommands } from "./ip-state.ts";
import { runBatch } from "./run-batch.ts";

/** What is gone already, since its link is, or because another program removed it. */
const GONE = /Cannot find device|No such (?:file or directory|device|process)|Cannot assign requested address/;

/** Brings addresses, routes, rules, neighbours and tunnel entries to what they should be. */
export class IpTable {
  readonly #desired: () => IpState;
  readonly #queue = new KeyedQueue();
  /** As we left it. */
  #installed = new Map<string, string>();

  constructor(desired: () => IpState) {
    this.#desired = desired;
  }

  /** By what we remember: costs what has changed. */
  sync(): Promise<void> {
    return this.#queue.run("ip", async () => {
      await this.#apply();
    });
  }

  /** What the kernel took away together with a link. */
  forget(link: string): Promise<void> {
    return this.#queue.run("ip", async () => {
      for (const [key, value] of this.#installed) {
        if (`${key} ${value} `.includes(` dev ${link} `)) this.#installed.delete(key);
      }
    });
  }

  /** By what the kernel says: finds what others changed. The answer is what had to be done. */
  check(): Promise<readonly string[]> {
    return this.#queue.run("ip", async () => {
      this.#installed = new Map(await readIpState());
      return await this.#apply();
    });
  }

  async #apply(): Promise<readonly string[]> {
    const desired = this.#desired();
    const { bridge, ip } = ipCommands(this.#installed, desired);
    await runBatch("bridge", bridge, { tolerate: GONE });
    await runBatch("ip", ip, { tolerate: GONE });
    this.#installed = new Map(desired);
    return [...bridge, ...ip];
  }
}
