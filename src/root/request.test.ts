import assert from "node:assert/strict";
import { test } from "node:test";
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { Workload } from "../protocol/instance.ts";
import type { PlacementRequest } from "../protocol/placement-request.ts";
import { pinnedTo, placementRequest, workload } from "./request.ts";

const descriptor = (change: Partial<MicroserviceDescriptor>): MicroserviceDescriptor => ({
  microservice_name: "web",
  microservice_namespace: "prod",
  virtualization: "container",
  code: "busybox",
  ...change,
});

const REQUESTS: readonly [string, Partial<MicroserviceDescriptor>, Partial<PlacementRequest>][] = [
  ["nothing asked", {}, { memoryBytes: 0, cpuMillis: 0, gpus: 0, architectures: [], ports: [] }],
  ["megabytes", { memory: 100 }, { memoryBytes: 104_857_600 }],
  ["cores", { vcpus: 2 }, { cpuMillis: 2000 }],
  ["thousandths win over cores", { vcpus: 2, cpu_millis: 250 }, { cpuMillis: 250 }],
  ["docker is container", { virtualization: "docker" }, { virtualization: "container" }],
  ["anything else is itself", { virtualization: "unikernel" }, { virtualization: "unikernel" }],
  ["OCI's names of architectures", { arch: ["aarch64", "AMD64"] }, { architectures: ["arm64", "amd64"] }],
  ["ports", { port: "53:5353/udp" }, { ports: [{ hostPort: 53, containerPort: 5353, protocol: "udp" }] }],
  [
    "a direct constraint names a cluster and workers",
    { constraints: [{ type: "direct", cluster: "edge", node: "a; b;;a" }] },
    { directCluster: "edge", directWorkers: ["a", "b"] },
  ],
  [
    "several lists of clusters hold together",
    {
      constraints: [
        { type: "clusters", allowed: ["a", "b"] },
        { type: "clusters", allowed: ["b", "c"] },
      ],
    },
    { allowedClusters: ["b"] },
  ],
];

for (const [what, change, expected] of REQUESTS) {
  test(`placementRequest(): ${what}`, () => {
    const request = placementRequest(descriptor(change));
    assert.deepEqual({ ...request, ...expected }, request);
  });
}

const WORKLOADS: readonly [string, Partial<MicroserviceDescriptor>, Partial<Workload>][] = [
  ["defaults", {}, { command: [], environment: [], oneShot: false, fuse: false, stopGraceMs: 10_000 }],
  ["seconds of grace", { stop_grace: 0 }, { stopGraceMs: 0 }],
  ["privileged means /dev/fuse", { privileged: true }, { fuse: true }],
  ["what to run", { cmd: ["sh"], environment: ["A=b"], one_shot: true }, { command: ["sh"], environment: ["A=b"] }],
];

for (const [what, change, expected] of WORKLOADS) {
  test(`workload(): ${what}`, () => {
    const made = workload(descriptor(change), undefined);
    assert.deepEqual({ ...made, ...expected }, made);
    assert.equal("credentials" in made, false);
  });
}

test("pinnedTo(): a direct cluster outside the allowed ones is nowhere", () => {
  const request = placementRequest(descriptor({}));
  assert.equal(pinnedTo(request), undefined);
  assert.deepEqual(pinnedTo({ ...request, allowedClusters: ["a", "b"] }), ["a", "b"]);
  assert.deepEqual(pinnedTo({ ...request, directCluster: "a", allowedClusters: ["a", "b"] }), ["a"]);
  assert.deepEqual(pinnedTo({ ...request, directCluster: "c", allowedClusters: ["a", "b"] }), []);
});
