import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger } from "../../base/log.ts";
import { MAX_CHECKED, MAX_NAMED } from "../../protocol/net-check.ts";
import type { NetDocument } from "../../protocol/net-document.ts";
import { checkedRoutes } from "./checked-routes.ts";
import { netCheck } from "./net-documents.ts";
import { BodySink, CHECK_BYTES } from "./path-check.ts";
import type { WorkerOverlay } from "./worker-overlay.ts";

const { signal } = new AbortController();

const net: NetDocument = {
  peers: [
    {
      id: "w2",
      address: "192.0.2.2",
      subnets: ["10.18.0.64/26"],
      path: "plain",
      rtt_ms: 3,
      overlay_rtt_ms: 4,
      missed: 0,
    },
    { id: "w3", address: "192.0.2.3", subnets: ["10.18.0.128/26"], path: "vxlan", rtt_ms: 5, missed: 9 },
    { id: "w4", address: "192.0.2.4", subnets: [], path: "vxlan", missed: 0 },
  ],
  services: [
    {
      ...{ service_id: "1", job_name: "shop.prod.web.prod", round_robin: "10.30.0.1", closest: "10.30.0.2" },
      instances: [
        { number: 0, address: "10.30.0.3", sandbox: "10.18.0.66", worker_id: "w2" },
        { number: 1, address: "10.30.0.4", sandbox: "10.18.0.2", worker_id: "w1" },
        { number: 2, address: "10.30.0.5" },
      ],
    },
  ],
};
const checks = [
  { worker_id: "w2", bytes: CHECK_BYTES, connect_ms: 4, body_ms: 20 },
  { worker_id: "w3", bytes: CHECK_BYTES, error: "no connection within 10 s" },
];

test("a checked route has the instances to which it leads; a time of before is not taken for now's, who takes no traffic stands apart", () => {
  const web = (number: number) => ({ job_name: "shop.prod.web.prod", number });
  const none = { instances: [], more_instances: 0 };
  assert.deepEqual(checkedRoutes(net, { checks }), {
    routes: [
      {
        ...{ worker_id: "w2", address: "192.0.2.2", path: "plain", rtt_ms: 4, connect_ms: 4, body_ms: 20 },
        ...{ instances: [web(0)], more_instances: 0 },
      },
      { worker_id: "w3", address: "192.0.2.3", path: "vxlan", error: "no connection within 10 s", ...none },
      { worker_id: "w4", address: "192.0.2.4", path: "vxlan", error: "not tried: it has no subnet", ...none },
    ],
    refused: [web(2)],
    left_out: 0,
  });
});

test("an answer is bounded, and says how much it leaves out", () => {
  const [service] = net.services;
  const instances = Array.from({ length: 30 }, (_, number) => ({ ...service!.instances[0]!, number }));
  const refused = Array.from({ length: MAX_CHECKED + 2 }, (_, number) => ({ number, address: "10.30.0.9" }));
  const peers = Array.from({ length: MAX_CHECKED + 3 }, (_, index) => ({ ...net.peers[0]!, id: `w${index}` }));
  const many = { ...net, peers, services: [{ ...service!, instances: [...instances, ...refused] }] };
  const { routes, refused: told, left_out } = checkedRoutes(many, { checks: [] });
  assert.deepEqual([routes.length, told.length, left_out], [MAX_CHECKED, MAX_CHECKED, 5]);
  const { instances: named, more_instances } = routes[2]!;
  assert.deepEqual([named.length, more_instances], [MAX_NAMED, 30 - MAX_NAMED]);
});

test("a body goes to each other worker in turn; who has none left in time is told as not tried", async (t) => {
  const sink = new BodySink({ isPeer: () => true, log: silentLogger });
  await sink.listen(["127.77.0.1"]);
  t.after(() => sink.close());
  const peers = ["127.77.0.0/26", "127.78.0.0/26", "127.77.0.0/26"].map((subnet, index) => ({
    ...{ id: `w${index}`, subnets: [subnet] },
  }));
  const overlay = { kernel: { applied: { services: [], peers } } } as unknown as WorkerOverlay;
  let now = 0;
  // Ten seconds a reading: the second body is the last that begins in time.
  const reading = () => {
    now += 10_000;
    return now;
  };
  const { checks } = await netCheck(overlay, reading, { signal, withinMs: 60_000 });
  assert.ok(checks[0]!.body_ms !== undefined, JSON.stringify(checks));
  assert.match(checks[1]!.error ?? "", /ECONNREFUSED/);
  assert.match(checks[2]!.error ?? "", /^not tried: the 60 s for all routes/);
});
