/** How nft text reaches the kernel: in process through libnftables (0.2 ms), or by a spawned `nft` (6 to 24 ms). */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exec } from "../base/exec.ts";
import { KeyedQueue } from "../base/keyed-queue.ts";
import type { Logger } from "../base/log.ts";
import { openLibnftables } from "./libnftables.ts";
import { nftFailed } from "./network-errors.ts";
import type { NftWatchListener } from "./nft-watch.ts";

export interface Nft {
  /** Applies the text in one transaction: all of it, or nothing. @throws NFT_FAILED with nft's own words. */
  run(text: string): Promise<void>;
  /** The answer of a `list …` command, as nft's JSON. @throws NFT_FAILED */
  list(command: string): Promise<unknown>;
  /** Tells of changes that come from elsewhere; returns what ends it. Missing where own ones could not be told from them. */
  readonly watch?: (listener: NftWatchListener) => Promise<() => void>;
  close(): void;
}

/** Prefers libnftables. It belongs to the network namespace that the process is in now. */
export async function openNft({ folder, log }: { folder: string; log: Logger }): Promise<Nft> {
  try {
    return await openLibnftables();
  } catch (error) {
    log.warn({ error }, "libnftables cannot be loaded; spawning nft instead, which is slower");
    return spawnNft(folder);
  }
}

/** @param folder for the file that `nft` reads: it cannot read the socket that Node gives a child as standard input. */
export function spawnNft(folder: string): Nft {
  const file = join(folder, "rules.nft");
  const queue = new KeyedQueue();
  return {
    run: (text) =>
      queue.run(file, async () => {
        await mkdir(folder, { recursive: true, mode: 0o700 });
        await writeFile(file, text, { mode: 0o600 });
        await nft("-f", file);
      }),
    list: async (command) => JSON.parse(await nft("-j", command)) as unknown,
    close: () => {},
  };
}

async function nft(...args: string[]): Promise<string> {
  try {
    return await exec("nft", args);
  } catch (cause) {
    throw nftFailed((cause as Error).message, cause);
  }
}
