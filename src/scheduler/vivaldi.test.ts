import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { generator } from "./builders.fake.ts";
import { distanceKm, parsePlace } from "./geo.ts";
import { type Coordinate, distanceMs, isCredible, locate, ORIGIN, update } from "./vivaldi.ts";

/** Nodes in a plane of 100 ms, each with an access link, and some detours that violate the triangle inequality. */
function syntheticRtts(count: number, random: () => number): number[][] {
  const nodes = Array.from({ length: count }, () => ({
    x: random() * 80,
    y: random() * 80,
    access: 0.5 + random() * 4,
  }));
  const detour = nodes.map(() => nodes.map(() => (random() < 0.05 ? 1.5 : 1)));
  return nodes.map((a, i) =>
    nodes.map(
      (b, j) => (Math.hypot(a.x - b.x, a.y - b.y) + a.access + b.access) * detour[Math.min(i, j)]![Math.max(i, j)]!,
    ),
  );
}

function converge(rtts: readonly (readonly number[])[], random: () => number, rounds: number): Coordinate[] {
  const nodes: Coordinate[] = rtts.map(() => ORIGIN);
  const unit = (): [number, number, number] => {
    const raw: [number, number, number] = [random() - 0.5, random() - 0.5, random() - 0.5];
    const size = Math.hypot(...raw) || 1;
    return [raw[0] / size, raw[1] / size, raw[2] / size];
  };
  for (let round = 0; round < rounds; round++) {
    nodes.forEach((node, i) => {
      const j = Math.floor(random() * nodes.length);
      if (j !== i) nodes[i] = update(node, nodes[j]!, rtts[i]![j]! * (0.95 + random() * 0.1), unit());
    });
  }
  return nodes;
}

function medianError(nodes: readonly Coordinate[], rtts: readonly (readonly number[])[]): number {
  const errors = nodes.flatMap((a, i) =>
    nodes.slice(i + 1).map((b, k) => Math.abs(distanceMs(a, b) - rtts[i]![i + 1 + k]!) / rtts[i]![i + 1 + k]!),
  );
  return errors.sort((left, right) => left - right)[errors.length >> 1]!;
}

test("coordinates predict round-trip times: median relative error at most 0.2, with detours and noise", () => {
  const random = generator(7);
  const rtts = syntheticRtts(60, random);
  const error = medianError(converge(rtts, random, 400), rtts);
  assert.ok(error <= 0.2, `median relative error ${error.toFixed(3)}`);
});

test("nonsense leaves a coordinate as it was, and no sample makes it incredible", () => {
  const peer: Coordinate = { position: [10, 0, 0], heightMs: 1, error: 0.5 };
  for (const rtt of [Number.NaN, -1, 0, Number.POSITIVE_INFINITY, 1e9]) assert.equal(update(ORIGIN, peer, rtt), ORIGIN);
  assert.equal(update(ORIGIN, { ...peer, heightMs: Number.NaN }, 5), ORIGIN);
  fc.assert(
    fc.property(
      fc.array(fc.record({ x: fc.double(), h: fc.double(), e: fc.double(), rtt: fc.double() }), { maxLength: 50 }),
      (samples) => {
        const end = samples.reduce<Coordinate>(
          (own, { x, h, e, rtt }) => update(own, { position: [x, -x, 0], heightMs: h, error: e }, rtt),
          ORIGIN,
        );
        assert.ok(isCredible(end));
      },
    ),
  );
});

test("locate() finds a user from the round-trip times of a few workers", () => {
  const random = generator(3);
  for (let round = 0; round < 20; round++) {
    const target: Coordinate = { position: [random() * 60, random() * 60, 0], heightMs: 2, error: 0 };
    const workers = Array.from(
      { length: 8 },
      (): Coordinate => ({ position: [random() * 60, random() * 60, random() * 5], heightMs: 1, error: 0.1 }),
    );
    const found = locate(
      workers.map((from) => ({ from, rttMs: distanceMs(from, target) * (0.97 + random() * 0.06) })),
    )!;
    const elsewhere: Coordinate = { position: [30, 30, 0], heightMs: 1, error: 0.1 };
    const difference = Math.abs(distanceMs(found, elsewhere) - distanceMs(target, elsewhere));
    assert.ok(difference < 8, `off by ${difference.toFixed(1)} ms`);
  }
  assert.equal(locate([{ from: ORIGIN, rttMs: 5 }]), undefined);
});

test("places: both spellings, an area, and what is none", () => {
  assert.deepEqual(parsePlace("48.1374,11.5755"), { latitude: 48.1374, longitude: 11.5755, radiusKm: 0 });
  assert.deepEqual(parsePlace("11.5755;48.1374"), { latitude: 48.1374, longitude: 11.5755, radiusKm: 0 });
  assert.deepEqual(parsePlace("48.1374, 11.5755, 2500"), { latitude: 48.1374, longitude: 11.5755, radiusKm: 2.5 });
  for (const text of ["munich-1", "", "91,0", "0,181", "1,2,3,4", "NaN,1"]) assert.equal(parsePlace(text), undefined);
});

test("great-circle distance: Munich to Berlin, and to its antipode", () => {
  const munich = parsePlace("48.1374,11.5755")!;
  assert.ok(Math.abs(distanceKm(munich, parsePlace("52.5200,13.4050")!) - 504) < 2);
  assert.ok(Math.abs(distanceKm(munich, parsePlace("-48.1374,-168.4245")!) - 20_015) < 2);
  assert.equal(distanceKm(munich, munich), 0);
});
