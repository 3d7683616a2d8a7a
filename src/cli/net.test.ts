import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { NetDocument } from "../protocol/net-document.ts";
import { traceHops } from "./commands/net.ts";
import { fakeEdge } from "./edge.fake.ts";
import { createProgram } from "./program.ts";

const net: NetDocument = {
  worker: { id: "here", address: "192.0.2.1", subnets: ["10.18.0.0/26"] },
  peers: [{ id: "there", address: "192.0.2.2", subnets: ["10.18.0.64/26"], path: "plain", rtt_ms: 3, missed: 0 }],
  services: [
    {
      ...{ service_id: "1", job_name: "shop.prod.web.prod", round_robin: "10.30.0.1", closest: "10.30.0.2" },
      closest_target: "10.18.0.2",
      instances: [
        { number: 0, address: "10.30.0.3", sandbox: "10.18.0.2", worker_id: "here" },
        { number: 1, address: "10.30.0.4", sandbox: "10.18.0.66", worker_id: "there" },
        { number: 2, address: "10.30.0.5" },
      ],
    },
  ],
};

test("a trace names where a packet begins, what its address means, and how it gets there", () => {
  const rows: [string, RegExp[]][] = [
    ["10.30.0.2", [/sandbox 10\.18\.0\.2, on this worker/, /shop\.web, closest/, /web\/0: sandbox 10\.18\.0\.2/]],
    ["shop.web/1", [/instance 1/, /plain route over the common link to 192\.0\.2\.2, 3 ms.*sandbox 10\.18\.0\.66/]],
    ["shop.prod.web.prod", [/round robin/, /next of shop\.web\/0, shop\.web\/1/, /come from 10\.30\.0\.3/]],
    ["10.30.0.5", [/refused at once/]],
  ];
  for (const [to, patterns] of rows) {
    const text = traceHops(net, "shop.web/0", to).join("\n");
    for (const pattern of patterns) assert.match(text, pattern);
  }
  assert.match(traceHops(net, "shop.web/1", "10.30.0.1").join("\n"), /its own worker decides/);
  assert.throws(() => traceHops(net, "shop.web/9", "10.30.0.1"), { code: "NOT_FOUND" });
  assert.throws(() => traceHops(net, "shop.web/0", "shop.db"), {
    code: "NAME_UNKNOWN",
    message: /no service "shop\.db".*lately/,
  });
  assert.deepEqual(traceHops(net, "web/0", "web"), traceHops(net, "shop.web/0", "shop.web"));
});

test("a worker without a link to its cluster says why, beside what it routes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "oak-net-"));
  const socket = join(folder, "worker.sock");
  const cluster = { url: "http://192.0.2.9:10100", connected: false, problem: "Cannot reach it" };
  const worker = createServer((_, response) => response.end(JSON.stringify({ ...net, cluster })));
  await new Promise<void>((resolve) => worker.listen(socket, resolve));
  try {
    const edge = fakeEdge();
    await createProgram(edge).parseAsync(["node", "oak", "net", "show", "--socket", socket]);
    assert.match(edge.stdout, /10\.30\.0\.1 +shop\.web, round robin/);
    assert.equal(edge.stderr, "This worker has no link to its cluster (http://192.0.2.9:10100): Cannot reach it\n");
  } finally {
    worker.close();
    worker.closeAllConnections();
    rmSync(folder, { recursive: true });
  }
});
