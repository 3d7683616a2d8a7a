/**
 * The output of instances, in `<stateDir>/logs`. The runtime appends to the files by itself (they are opened with O_APPEND), so a
 * file that has grown too large is copied and cut to nothing in place: at most two times `maxBytes` are kept for an instance.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { hasCode } from "../base/errors.ts";

const SUFFIX = ".log";
const READ_BYTES = 64 * 1024;

export class InstanceLogs {
  readonly folder: string;
  readonly #maxBytes: number;

  constructor(options: { folder: string; maxBytes?: number }) {
    this.folder = options.folder;
    this.#maxBytes = options.maxBytes ?? 10 * 1024 * 1024;
  }

  path(instanceId: string): string {
    return join(this.folder, `${instanceId}${SUFFIX}`);
  }

  /** Instances that have a log. Makes the folder if it is not there. */
  async list(): Promise<string[]> {
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const names = await readdir(this.folder);
    return names.filter((name) => name.endsWith(SUFFIX)).map((name) => name.slice(0, -SUFFIX.length));
  }

  async remove(instanceId: string): Promise<void> {
    await rm(olderPart(this.path(instanceId)), { force: true });
    await rm(this.path(instanceId), { force: true });
  }

  /** Cuts every log that has grown too large, and tells whether there was one. What is written between copy and cut is lost. */
  async rotate(): Promise<boolean> {
    let hasCut = false;
    for (const instanceId of await this.list()) {
      const path = this.path(instanceId);
      const size = await sizeOf(path);
      if (size < this.#maxBytes) continue;
      hasCut = true;
      // A full disk has no room for the copy, and needs the cut more than anything.
      await this.#keepEnd(path, size).catch(() => rm(olderPart(path), { force: true }));
      await truncate(path);
    }
    return hasCut;
  }

  /** A log may have grown far beyond the limit since it was looked at. */
  async #keepEnd(path: string, size: number): Promise<void> {
    const end = createReadStream(path, { start: size - this.#maxBytes, end: size - 1 });
    await pipeline(end, createWriteStream(olderPart(path), { mode: 0o600 }));
  }

  /** The end of the log as text, at most `maxBytes` and `maxLines`; empty when there is none. `offset` is where it ends in the file. */
  async tail(
    instanceId: string,
    limit: { maxBytes: number; maxLines: number },
  ): Promise<{ text: string; offset: number }> {
    try {
      await using file = await open(this.path(instanceId));
      const { size } = await file.stat();
      let start = size;
      let tail: Buffer = Buffer.alloc(0);
      while (start > 0 && size - start < limit.maxBytes && countLines(tail) <= limit.maxLines) {
        const length = Math.min(READ_BYTES, start, limit.maxBytes - (size - start));
        start -= length;
        const part = Buffer.alloc(length);
        const { bytesRead } = await file.read(part, 0, length, start);
        tail = Buffer.concat([part.subarray(0, bytesRead), tail]);
      }
      return { text: lastLines(wholeCharacters(tail).toString(), limit.maxLines), offset: size };
    } catch (error) {
      if (hasCode(error, "ENOENT")) return { text: "", offset: 0 };
      throw error;
    }
  }
}

const olderPart = (path: string) => `${path}.1`;

export async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (hasCode(error, "ENOENT")) return 0;
    throw error;
  }
}

function countLines(text: Buffer): number {
  let count = 0;
  for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) count += 1;
  return count;
}

function lastLines(text: string, maxLines: number): string {
  const lines = text.split("\n");
  // What follows the last line's end is not a line yet.
  return lines.slice(-(maxLines + (lines.at(-1) === "" ? 1 : 0))).join("\n");
}

/** Without the rest of a character at the beginning whose first bytes were cut off. */
function wholeCharacters(bytes: Buffer): Buffer {
  let start = 0;
  while (start < Math.min(3, bytes.length) && (bytes[start]! & 0xc0) === 0x80) start += 1;
  return bytes.subarray(start);
}
