import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { FakeNetwork } from "../../net/network.fake.ts";
import { serviceRoute } from "../routes/builders.fake.ts";
import { KernelRoutes } from "./kernel-routes.ts";
import { PeerPaths } from "./peer-paths.ts";

test("a worker that was removed and still introduces itself does not get the packets of its subnet's next holder", async () => {
  const overlay = new FakeNetwork();
  const table = serviceRoute(1);
  const [holder] = table.workers;
  const removed = { ...holder!, id: "removed", address: "192.0.2.9" };
  const kernel = new KernelRoutes({
    ...{ overlay, clock: systemClock, log: silentLogger },
    tables: () => new Map([[table.serviceId, table]]),
    own: () => new Map(),
    selfId: () => "self",
    isDesired: () => true,
    isUnsure: () => false,
    callers: () => [removed],
    prober: { quality: () => undefined, setPeers: () => {} },
    introductions: { setPeers: () => {}, isReachable: () => true },
    paths: new PeerPaths({ overlay, quality: () => undefined, clock: systemClock }),
  });
  kernel.routesChanged([table.serviceId]);
  await kernel.apply();
  assert.deepEqual(
    overlay.routes.peers.map(({ id }) => id),
    ["removed", holder!.id],
  );
});
