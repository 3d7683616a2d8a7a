import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isUsable, nextPiece, type Pool } from "./pool.ts";
import { formatAddress, parseAddress, parseSubnet } from "./subnet.ts";

/** A book as a store keeps it. */
class Ledger {
  readonly held = new Set<number>();
  /** Piece → when it was freed. */
  readonly resting = new Map<number, number>();
  cursor: number | undefined;
  take(pool: Pool, now: number, quarantine: number): number | undefined {
    const rested = [...this.resting].filter(([, at]) => at + quarantine <= now).sort(([, a], [, b]) => a - b)[0]?.[0];
    const piece = nextPiece(pool, {
      isTaken: (candidate) => this.held.has(candidate) || this.resting.has(candidate),
      cursor: this.cursor,
      rested,
    });
    if (piece === undefined) return undefined;
    if (piece !== rested) this.cursor = piece;
    this.resting.delete(piece);
    this.held.add(piece);
    return piece;
  }
}

test("addresses come in order, without those that end in 0 or 255, and from one range after the other", () => {
  const pool: Pool = { ranges: [parseSubnet("10.30.0.252/30"), parseSubnet("10.31.0.0/31")], pieceSize: 1 };
  const ledger = new Ledger();
  const given = Array.from({ length: 5 }, () => ledger.take(pool, 0, 0)).map((piece) => piece && formatAddress(piece));
  assert.deepEqual(given, ["10.30.0.252", "10.30.0.253", "10.30.0.254", "10.31.0.1", undefined]);
});

test("subnets are whole pieces of their range", () => {
  const pool: Pool = { ranges: [parseSubnet("10.18.0.0/24")], pieceSize: 64 };
  const ledger = new Ledger();
  const given = Array.from({ length: 5 }, () => ledger.take(pool, 0, 0)).map((piece) => piece && formatAddress(piece));
  assert.deepEqual(given, ["10.18.0.0", "10.18.0.64", "10.18.0.128", "10.18.0.192", undefined]);
});

test("an address that was asked for is usable only inside the range", () => {
  const pool: Pool = { ranges: [parseSubnet("10.30.0.0/16")], pieceSize: 1 };
  const usable = (text: string) => isUsable(pool, parseAddress(text)!);
  assert.deepEqual(["10.30.0.1", "10.30.255.254", "10.31.0.1", "10.30.7.0", "10.30.7.255"].map(usable), [
    true,
    true,
    false,
    false,
    false,
  ]);
});

test("nothing is ever given out twice, nor before it has rested, and nothing is lost", () => {
  const pool: Pool = { ranges: [parseSubnet("10.30.0.0/28")], pieceSize: 1 };
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant("take" as const), fc.nat(20)), { maxLength: 80 }), (actions) => {
      const ledger = new Ledger();
      const quarantine = 5;
      actions.forEach((action, now) => {
        if (action === "take") {
          const before = new Set(ledger.held);
          const young = [...ledger.resting].filter(([, at]) => at + quarantine > now).map(([piece]) => piece);
          const piece = ledger.take(pool, now, quarantine);
          if (piece === undefined) assert.equal(before.size + young.length, 15, "all others were held or resting");
          else assert.ok(!before.has(piece) && !young.includes(piece) && isUsable(pool, piece));
        } else {
          const piece = [...ledger.held][action];
          if (piece !== undefined && ledger.held.delete(piece)) ledger.resting.set(piece, now);
        }
      });
    }),
  );
});
