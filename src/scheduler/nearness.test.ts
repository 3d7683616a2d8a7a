import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PlacementRequest, Position, UserSample } from "../protocol/placement-request.ts";
import { at, candidate, link, onEarth, request, users } from "./builders.fake.ts";
import type { Aggregated, Candidate } from "./candidate.ts";
import { schedule } from "./schedule.ts";
import { distanceMs, ORIGIN } from "./vivaldi.ts";
import { zoneOf } from "./zone.ts";

const aggregated: Aggregated = { groups: [], reserved: { cpuMillis: 0, memoryBytes: 0, gpus: 0 } };
const munich = onEarth(48.1374, 11.5755);
const berlin = onEarth(52.52, 13.405);
const origin: Position = { network: { ...ORIGIN, position: [0, 0, 0] } };
const sample = (workerId: string, from: Position, rttMs: number): UserSample => ({
  workerId,
  from: from.network!,
  rttMs,
});
const inMunich = { measure: "geo", target: "48.1374,11.5755", kind: "place", place: munich.place } as const;

/** undefined: placed. */
function refusal(ask: Partial<PlacementRequest>, where: Candidate) {
  const decision = schedule(request(ask), [where], { strategy: "best-fit" });
  return decision.placed ? undefined : { ...decision.verdicts[0]!, waitsFor: decision.waitsFor };
}

const CASES: readonly [string, Partial<PlacementRequest>, Partial<Candidate>, RegExp | undefined][] = [
  ["near enough to the service", { links: [link({ targets: [at(10)] })] }, { position: at(25) }, undefined],
  ["too far from it", { links: [link({ targets: [at(10)] })] }, { position: at(35) }, /had":"25.0 ms"/],
  [
    "near one of its instances is enough",
    { links: [link({ targets: [at(90), at(30)] })] },
    { position: at(35) },
    undefined,
  ],
  [
    "on the worker that has it, whatever the height of its access link",
    { links: [link({ targets: [{ ...at(0), candidateId: "a" }] })] },
    { position: { network: { position: [0, 0, 0], heightMs: 30, error: 0.1 } } },
    undefined,
  ],
  [
    "a service without instance is waited for",
    { links: [link({})] },
    { position: at(0) },
    /an instance of service shop/,
  ],
  ["at the root as well", { links: [link({})] }, { position: at(0), aggregated }, /"had":"none yet"/],
  ["unless it need not be", { links: [link({ waits: false })] }, { position: at(0) }, undefined],
  [
    "a newcomer's coordinate says nothing",
    { links: [link({ targets: [at(0)] })] },
    { position: origin },
    /no network coordinate/,
  ],
  ["nor does one without", { links: [link({ targets: [at(0)] })] }, {}, /no network coordinate/],
  [
    "a target without coordinate",
    { links: [link({ targets: [munich] })] },
    { position: at(0) },
    /the position of service/,
  ],
  ["a cluster of which nothing is known passes", { links: [link({ targets: [at(0)] })] }, { aggregated }, undefined],
  [
    "a zone that reaches near enough passes",
    { links: [link({ targets: [at(0)] })] },
    { aggregated, position: at(60, 0, { networkRadiusMs: 40 }) },
    undefined,
  ],
  [
    "a zone that does not is refused with the least possible distance",
    { links: [link({ targets: [at(0)] })] },
    { aggregated, position: at(80, 0, { networkRadiusMs: 40 }) },
    /at least 40.0 ms/,
  ],
  ["within so many km", { users: [users({ ...inMunich, threshold: 600 })] }, { position: berlin }, undefined],
  ["farther", { users: [users({ ...inMunich, threshold: 120 })] }, { position: berlin }, /"had":"504.\d km"/],
  [
    "an area reaches out",
    { users: [users({ ...inMunich, threshold: 120, place: { ...munich.place!, radiusKm: 400 } })] },
    { position: berlin },
    undefined,
  ],
  ["a worker without place", { users: [users({ ...inMunich })] }, { position: at(0) }, /no known place/],
  [
    "light is not that fast",
    { users: [users({ ...inMunich, measure: "latency", threshold: 5 })] },
    { position: berlin },
    /5.0 ms/,
  ],
  [
    "but might be",
    { users: [users({ ...inMunich, measure: "latency", threshold: 6 })] },
    { position: berlin },
    undefined,
  ],
  [
    "in the named area",
    { users: [users({ kind: "area", target: "munich-1" })] },
    { position: { area: "munich-1" } },
    undefined,
  ],
  [
    "in another",
    { users: [users({ kind: "area", target: "munich-1" })] },
    { position: { area: "ulm" } },
    /location ulm/,
  ],
  ["users that nobody measured", { users: [users()] }, { position: at(0) }, /a measurement of 192.0.2.7/],
  [
    "unreachable users",
    { users: [users({ tried: 5, samples: [] })] },
    { position: at(0) },
    /none of 5 workers got an answer/,
  ],
  [
    "its own measurement counts",
    { users: [users({ samples: [sample("a", at(0), 12)] })] },
    { position: at(0) },
    undefined,
  ],
  ["also against it", { users: [users({ samples: [sample("a", at(0), 31)] })] }, { position: at(0) }, /31.0 ms/],
  [
    "two of others locate nobody",
    { users: [users({ samples: [sample("x", at(0), 9), sample("y", at(9), 9)] })] },
    { position: at(0) },
    /2 measurements/,
  ],
];

for (const [what, ask, where, expected] of CASES) {
  test(`distance rules: ${what}`, () => {
    const verdict = refusal(ask, candidate("a", where));
    if (!expected) assert.equal(verdict, undefined);
    else assert.match(JSON.stringify(verdict), expected);
  });
}

test("users are located from the measurements of three workers and more", () => {
  const there = at(40, 30).network!;
  const probes = [at(0), at(80), at(0, 70), at(80, 70)];
  const samples = probes.map((from, index) => sample(`p${index}`, from, distanceMs(from.network!, there)));
  assert.equal(refusal({ users: [users({ samples })] }, candidate("a", { position: at(45, 40) })), undefined);
  assert.match(refusal({ users: [users({ samples })] }, candidate("a", { position: at(80, 69) }))!.had, /^\d+\.\d ms$/);
});

test("NaN, negative and absurd measurements locate nobody, and throw nothing", () => {
  const absurd = [Number.NaN, -5, 1e12].map((rttMs, index) => sample(`p${index}`, at(index), rttMs));
  assert.ok(refusal({ users: [users({ samples: absurd })] }, candidate("a", { position: at(0) })));
});

test("ROM looks at resources only", () => {
  const ask = request({ links: [link({ targets: [at(0)] })] });
  const far = [candidate("a", { position: at(500) })];
  assert.ok(schedule(ask, far, { strategy: "best-fit", algorithm: "rom" }).placed);
  assert.ok(!schedule(ask, far, { strategy: "best-fit" }).placed);
});

test("the strategy nearest goes to the closest, best-fit to the roomiest that is near enough", () => {
  const ask = request({ links: [link({ targets: [at(0)] })] });
  const near = candidate("near", { position: at(2), free: { cpuMillis: 1500, memoryBytes: 2 ** 30, gpus: 0 } });
  const roomy = candidate("roomy", { position: at(18) });
  const far = candidate("far", { position: at(50), total: { cpuMillis: 1e6, memoryBytes: 1e15, gpus: 0 } });
  const chosen = (strategy: "nearest" | "best-fit") => {
    const decision = schedule(ask, [near, roomy, far], { strategy });
    return decision.placed && decision.candidateId;
  };
  assert.equal(chosen("nearest"), "near");
  assert.equal(chosen("best-fit"), "roomy");
});

test("no placement breaks a distance, and no zone is excluded that has a worker which is near enough", () => {
  const coordinate = fc.record({
    x: fc.double({ min: -200, max: 200, noNaN: true }),
    y: fc.double({ min: -200, max: 200, noNaN: true }),
    heightMs: fc.double({ min: 0, max: 20, noNaN: true }),
    latitude: fc.double({ min: 40, max: 60, noNaN: true }),
    longitude: fc.double({ min: 0, max: 20, noNaN: true }),
  });
  fc.assert(
    fc.property(
      fc.array(coordinate, { minLength: 1, maxLength: 12 }),
      coordinate,
      fc.double({ min: 0, max: 150, noNaN: true }),
      fc.double({ min: 0, max: 1500, noNaN: true }),
      (workers, target, ms, km) => {
        const positionOf = ({ x, y, heightMs, latitude, longitude }: typeof target): Position => ({
          network: { position: [x, y, 0], heightMs, error: 0.1 },
          place: { latitude, longitude, radiusKm: 0 },
        });
        const targets = [positionOf(target)];
        const ask = request({
          links: [link({ threshold: ms, targets }), link({ measure: "geo", threshold: km, targets })],
        });
        const points = workers.map((one, index) => candidate(`w${index}`, { position: positionOf(one) }));
        const decision = schedule(ask, points, { strategy: "best-fit" });
        if (!decision.placed) return;
        const chosen = points.find(({ id }) => id === decision.candidateId)!.position!;
        assert.ok(distanceMs(chosen.network!, targets[0]!.network!) <= ms);
        const zone = candidate("zone", { aggregated, position: zoneOf(points.map(({ position }) => position!)) });
        assert.ok(schedule(ask, [zone], { strategy: "best-fit" }).placed);
      },
    ),
  );
});

test("zoneOf() says nothing where a worker's position is not known, and names an area that all share", () => {
  assert.equal(zoneOf([]), undefined);
  assert.equal(zoneOf([at(0), {}]), undefined);
  assert.equal(zoneOf([at(0), origin])?.network, undefined);
  assert.equal(zoneOf([at(0, -9_000), at(9_000, 9_000), at(-9_000, 9_000)])?.network, undefined);
  assert.deepEqual(zoneOf([{ area: "ulm" }, { area: "ulm" }]), { area: "ulm" });
  assert.equal(zoneOf([{ area: "ulm" }, { area: "bonn" }]), undefined);
  const zone = zoneOf([munich, berlin])!;
  assert.ok(zone.place!.radiusKm > 250 && zone.place!.radiusKm < 260);
});
