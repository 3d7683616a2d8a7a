/** Writes tar archives (POSIX ustar, with pax headers where names are long) as a stream of bytes. */
import { AppError } from "../base/errors.ts";

export interface TarFile {
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly content: () => AsyncIterable<Uint8Array>;
}

export type TarItem =
  | ({ readonly type: "file" } & TarFile)
  | { readonly type: "folder"; readonly path: string; readonly mode: number }
  | { readonly type: "link"; readonly path: string; readonly to: string };

const BLOCK = 512;
const TYPE_FLAGS = { file: "0", link: "2", folder: "5" } as const;

/** Owner root, time zero: the same items give the same bytes. @throws AppError ARCHIVE_INVALID when a file's size changed */
export async function* writeTar(items: readonly TarItem[]): AsyncGenerator<Uint8Array, void, void> {
  for (const item of items) {
    const size = item.type === "file" ? item.size : 0;
    const target = item.type === "link" ? item.to : "";
    const path = item.type === "folder" ? `${item.path}/` : item.path;
    if (Buffer.byteLength(path) > 100 || Buffer.byteLength(target) > 100) yield* paxHeader({ path, linkpath: target });
    const mode = item.type === "link" ? 0o777 : item.mode;
    yield header({ path, mode, size, flag: TYPE_FLAGS[item.type], target });
    if (item.type !== "file") continue;
    let written = 0;
    for await (const chunk of item.content()) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== size) throw new AppError("ARCHIVE_INVALID", `"${item.path}" changed while it was read`);
    yield padding(size);
  }
  yield Buffer.alloc(2 * BLOCK);
}

interface HeaderFields {
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly flag: string;
  readonly target: string;
}

function header({ path, mode, size, flag, target }: HeaderFields): Buffer {
  const block = Buffer.alloc(BLOCK);
  // Names too long for their field stand in the pax header before.
  block.write(path.slice(0, 100), 0, 100);
  block.write(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  block.write(`${octal(size, 11)}\0${octal(0, 11)}\0${" ".repeat(8)}${flag}`, 124);
  block.write(target.slice(0, 100), 157, 100);
  block.write("ustar\x0000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\0 `, 148);
  return block;
}

function* paxHeader(fields: Readonly<Record<string, string>>): Generator<Uint8Array> {
  const body = Object.entries(fields)
    .filter(([, value]) => value !== "")
    .map(([key, value]) => paxRecord(key, value))
    .join("");
  const size = Buffer.byteLength(body);
  yield header({ path: "pax", mode: 0o644, size, flag: "x", target: "" });
  yield Buffer.from(body);
  yield padding(size);
}

/** A record begins with its own length, whose digits count too. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = Buffer.byteLength(rest);
  while (String(length).length + Buffer.byteLength(rest) !== length)
    length = String(length).length + Buffer.byteLength(rest);
  return `${length}${rest}`;
}

function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, "0");
}
