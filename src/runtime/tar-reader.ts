/** A tar file on disk: which files it holds and where; their content is read when it is asked for. */
import { type FileHandle, open } from "node:fs/promises";
import { AppError, hasCode } from "../base/errors.ts";

const BLOCK = 512;
interface Entry {
  readonly offset: number;
  readonly size: number;
  /** Where a link points, as a path inside the archive. */
  readonly target?: string;
}

const READ_BYTES = 256 * 1024;
const MAX_ENTRIES = 100_000;
const MAX_PAX_BYTES = 1024 * 1024;

export class TarReader {
  readonly #file: FileHandle;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(file: FileHandle, entries: ReadonlyMap<string, Entry>) {
    this.#file = file;
    this.#entries = entries;
  }

  /** @throws AppError ARCHIVE_INVALID */
  static async open(path: string): Promise<TarReader> {
    let file: FileHandle;
    try {
      file = await open(path, "r");
    } catch (cause) {
      const reason = hasCode(cause, "ENOENT") ? "no such file" : "it cannot be opened";
      throw new AppError("ARCHIVE_INVALID", `Cannot read archive "${path}": ${reason}`, { cause });
    }
    try {
      return new TarReader(file, await readEntries(file, path));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  has(path: string): boolean {
    return this.#find(path) !== undefined;
  }

  size(path: string): number {
    return this.#found(path).size;
  }

  /** @throws AppError ARCHIVE_INVALID when it is missing or larger */
  async read(path: string, maxBytes: number): Promise<Buffer> {
    if (this.size(path) > maxBytes) throw new AppError("ARCHIVE_INVALID", `"${path}" in the archive is too large`);
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.stream(path)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async *stream(path: string, from = 0): AsyncGenerator<Buffer, void, void> {
    const { offset, size } = this.#found(path);
    for (let done = from; done < size; ) {
      const chunk = await readFully(this.#file, offset + done, Math.min(READ_BYTES, size - done));
      done += chunk.length;
      yield chunk;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #find(path: string): Entry | undefined {
    const entry = this.#entries.get(path);
    // Older `docker save` links layers that several images share; links to links do not occur.
    return entry?.target === undefined ? entry : this.#entries.get(entry.target);
  }

  #found(path: string): Entry {
    const entry = this.#find(path);
    if (!entry) throw new AppError("ARCHIVE_INVALID", `The archive has no "${path}"`);
    return entry;
  }
}

async function readEntries(file: FileHandle, path: string): Promise<ReadonlyMap<string, Entry>> {
  const { size: end } = await file.stat();
  const entries = new Map<string, Entry>();
  let next: { path?: string; linkpath?: string; size?: string } = {};
  for (let position = 0; position + BLOCK <= end; ) {
    const block = await readFully(file, position, BLOCK);
    if (block.every((byte) => byte === 0)) break;
    if (!isHeader(block)) throw notTar(path, block, position);
    const size = next.size === undefined ? number(block, 124, 12) : Number(next.size);
    const offset = position + BLOCK;
    position = offset + Math.ceil(size / BLOCK) * BLOCK;
    if (!(size >= 0) || offset + size > end || entries.size >= MAX_ENTRIES)
      throw new AppError("ARCHIVE_INVALID", `Archive "${path}" is cut off or damaged`);
    const flag = String.fromCharCode(block[156]!);
    if (["x", "L", "K"].includes(flag)) {
      const body = (await readFully(file, offset, Math.min(size, MAX_PAX_BYTES))).toString();
      next = { ...next, ...(flag === "x" ? parsePax(body) : { [flag === "L" ? "path" : "linkpath"]: untilNul(body) }) };
      continue;
    }
    const prefix = text(block, 345, 155);
    const name = normalize(next.path ?? (prefix ? `${prefix}/${text(block, 0, 100)}` : text(block, 0, 100)));
    const target = next.linkpath ?? text(block, 157, 100);
    if (flag === "0" || flag === "\0") entries.set(name, { offset, size });
    else if (flag === "1") entries.set(name, { offset, size, target: normalize(target) });
    else if (flag === "2") entries.set(name, { offset, size, target: normalize(`${name}/../${target}`) });
    next = {};
  }
  return entries;
}

function isHeader(block: Buffer): boolean {
  const sum = block.reduce((total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte), 0);
  return number(block, 148, 8) === sum;
}

function notTar(path: string, block: Buffer, position: number): AppError {
  const compressed =
    position === 0 && ((block[0] === 0x1f && block[1] === 0x8b) || block.readUInt32BE(0) === 0x28b52ffd);
  const what = compressed ? "is compressed: decompress it first (gunzip, unzstd)" : "is not a tar archive, or damaged";
  return new AppError("ARCHIVE_INVALID", `Archive "${path}" ${what}`);
}

function parsePax(body: string): Record<string, string> {
  return Object.fromEntries(
    [...body.matchAll(/\d+ (path|linkpath|size)=([^\n]*)\n/g)].map(([, key, value]) => [key, value]),
  );
}

function number(block: Buffer, offset: number, length: number): number {
  // Sizes above 8 GiB are binary, marked by the highest bit.
  if (block[offset]! & 0x80) return Number(block.readBigUInt64BE(offset + length - 8));
  return Number.parseInt(text(block, offset, length).trim() || "0", 8);
}

function text(block: Buffer, offset: number, length: number): string {
  return untilNul(block.toString("utf8", offset, offset + length));
}

function untilNul(value: string): string {
  const end = value.indexOf("\0");
  return end < 0 ? value : value.slice(0, end);
}

/** `./a//b/../c/` → `a/c`. */
function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts.join("/");
}

async function readFully(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) throw new AppError("ARCHIVE_INVALID", "The archive is cut off");
    done += bytesRead;
  }
  return buffer;
}
