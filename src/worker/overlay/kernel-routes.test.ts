import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.fake.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { FakeNetwork } from "../../net/network.fake.ts";
import type { ServiceRoute, WorkerEndpoint } from "../../protocol/route.ts";
import { serviceRoute } from "../routes/builders.fake.ts";
import { KernelRoutes } from "./kernel-routes.ts";
import { PeerPaths } from "./peer-paths.ts";

function kernelRoutes(
  overlay: FakeNetwork,
  table: () => ServiceRoute,
  { callers = [], clock = systemClock }: { callers?: readonly WorkerEndpoint[]; clock?: Clock } = {},
): KernelRoutes {
  return new KernelRoutes({
    ...{ overlay, clock, log: silentLogger },
    tables: () => new Map([[table().serviceId, table()]]),
    own: () => new Map(),
    selfId: () => "self",
    isDesired: () => true,
    isUnsure: () => false,
    callers: () => callers,
    prober: { quality: () => undefined, setPeers: () => {} },
    introductions: { setPeers: () => {}, isReachable: () => true },
    paths: new PeerPaths({ overlay, quality: () => undefined, clock }),
  });
}

const peersOf = ({ routes }: FakeNetwork) => routes.peers.map(({ id }) => id);

test("packets of a worker from which an instance has moved are taken for as long as it may be answering", async () => {
  const overlay = new FakeNetwork();
  const clock = new ManualClock();
  const before = serviceRoute(1);
  const [old] = before.workers;
  const next = { id: "next", address: "192.0.2.99", subnets: ["10.18.99.0/26"] };
  const live = { sandbox: "10.18.99.2", workerId: next.id };
  let table = before;
  const kernel = kernelRoutes(overlay, () => table, { clock });
  kernel.routesChanged([table.serviceId]);
  await kernel.apply();
  assert.deepEqual(peersOf(overlay), [old!.id]);
  table = { ...before, workers: [next], instances: before.instances.map((one) => ({ ...one, live })) };
  kernel.routesChanged([table.serviceId]);
  await kernel.apply();
  assert.deepEqual(peersOf(overlay).sort(), [next.id, old!.id].sort());
  assert.deepEqual(overlay.routes.services[0]?.closestTarget, live.sandbox);
  await clock.advance(15_000);
  await kernel.apply();
  await kernel.apply();
  assert.deepEqual(peersOf(overlay), [next.id]);
});

test("a worker that was removed and still introduces itself does not get the packets of its subnet's next holder", async () => {
  const overlay = new FakeNetwork();
  const table = serviceRoute(1);
  const [holder] = table.workers;
  const removed = { ...holder!, id: "removed", address: "192.0.2.9" };
  const kernel = kernelRoutes(overlay, () => table, { callers: [removed] });
  kernel.routesChanged([table.serviceId]);
  await kernel.apply();
  assert.deepEqual(peersOf(overlay), ["removed", holder!.id]);
});
