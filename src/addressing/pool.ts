/**
 * Which address, or which subnet, is given out next. Pure: the owner of the book says what is taken.
 * Never-used ones come first, then those that have been free for longest: whoever still talks to a former holder must not
 * reach the next one.
 */
import { type Subnet, sizeOf } from "./subnet.ts";

export interface Pool {
  /** Given out in this order. */
  readonly ranges: readonly Subnet[];
  /** Size of one piece: 1 for addresses, 64 for a /26. */
  readonly pieceSize: number;
}

export interface Book {
  /** Held, or resting after it was freed. */
  readonly isTaken: (piece: number) => boolean;
  /** The last never-used piece that was given out; undefined: none yet. */
  readonly cursor: number | undefined;
  /** The piece that has rested for longest, and long enough. */
  readonly rested: number | undefined;
}

/** The next piece (its first address), or undefined when all are taken. */
export function nextPiece(pool: Pool, { isTaken, cursor, rested }: Book): number | undefined {
  for (const piece of piecesAfter(pool, cursor)) {
    if (!isTaken(piece)) return piece;
  }
  return rested;
}

/** True when a piece may be given out at all; service addresses ending in 0 or 255 confuse too many programs. */
export function isUsable({ ranges, pieceSize }: Pool, piece: number): boolean {
  if (!isPlain(pieceSize, piece)) return false;
  return ranges.some(({ base, prefix }) => piece >= base && piece + pieceSize <= base + sizeOf({ base, prefix }));
}

function isPlain(pieceSize: number, piece: number): boolean {
  return pieceSize !== 1 || (piece % 256 !== 0 && piece % 256 !== 255);
}

function* piecesAfter(pool: Pool, cursor: number | undefined): Generator<number, void, void> {
  const { ranges, pieceSize } = pool;
  const current = ranges.findIndex(
    (range) => cursor !== undefined && cursor >= range.base && cursor < range.base + sizeOf(range),
  );
  for (const [index, range] of ranges.entries()) {
    if (index < current) continue;
    const first = index === current ? cursor! + pieceSize : range.base;
    for (let piece = first; piece + pieceSize <= range.base + sizeOf(range); piece += pieceSize) {
      if (isPlain(pieceSize, piece)) yield piece;
    }
  }
}
