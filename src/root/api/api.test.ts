import assert from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod/mini";
import { hasCode } from "../../base/errors.ts";
import { ERROR_CODES } from "../../protocol/error-codes.ts";
import { type InstanceStatus, STATUS } from "../../protocol/instance.ts";
import type { Instance, Service } from "../model.ts";
import { aggregateStatus } from "./aggregate-status.ts";
import { encode } from "./api.ts";
import { parseJson, readBody } from "./body.ts";
import { ClusterDocument, clusterDocument } from "./cluster-document.ts";
import { descriptorWarnings, ServiceDocument, serviceDocument } from "./documents.ts";
import { openapiDocument } from "./openapi.ts";
import { ROUTES } from "./routes.ts";
import { userDocument } from "./user-document.ts";

const ID = "0123456789abcdef01234567";
const CLUSTER = "aaaaaaaaaaaaaaaaaaaaaaaa";

const service: Service = {
  id: ID,
  applicationId: CLUSTER,
  owner: "ann",
  jobName: "shop.prod.web.test",
  descriptor: {
    microserviceID: "",
    microservice_name: "web",
    microservice_namespace: "test",
    virtualization: "container",
    code: "docker.io/library/nginx:latest",
    memory: 50,
    port: "6080:80/tcp;53/udp",
    addresses: { rr_ip: "10.30.30.30" },
    my_gpu_model: "x",
    status: "planted",
    instance_list: "planted",
  },
  roundRobin: "10.30.30.30",
  closest: "10.30.0.1",
  nextInstanceNumber: 2,
  createdAt: 0,
};
const instance: Instance = {
  id: `${ID}-1`,
  serviceId: ID,
  number: 1,
  address: "10.30.0.2",
  generation: 2,
  clusterId: CLUSTER,
  status: "RUNNING",
  detail: "runs",
  since: 1_700_000_000_500,
};
const report = {
  instanceId: instance.id,
  generation: 2,
  status: "RUNNING" as const,
  detail: "",
  since: 0,
  restarts: 1,
  publicIp: "192.0.2.7",
  cpuPercent: 1.234,
  memoryBytes: 1_000_000,
};
const around = (generation = 2) => ({
  cluster: (id: string) => (id === CLUSTER ? { name: "test", location: "48,11,1000" } : undefined),
  report: () => ({ ...report, generation }),
});

test("a service's document has the descriptor's fields, ours over them, and the types that clients decode", () => {
  const document = serviceDocument(service, [instance], around());
  assert.ok(z.safeParse(ServiceDocument, document).success);
  assert.deepEqual(document._id, { $oid: ID });
  assert.equal(document.microserviceID, ID);
  assert.equal(document.virtualization, "docker");
  assert.equal(document.image, service.descriptor.code);
  assert.equal(document.app_name, "shop");
  assert.equal(document.app_ns, "prod");
  assert.equal(document.RR_ip, "10.30.30.30");
  assert.equal(document.closest_ip, "10.30.0.1");
  assert.deepEqual(document.addresses, { rr_ip: "10.30.30.30", closest_ip: "10.30.0.1" });
  assert.equal(document.my_gpu_model, "x");
  assert.equal(document.memory, 50);
  assert.equal(document.status, "RUNNING");
  const [shown] = document.instance_list;
  assert.equal(shown!.instance_number, 1);
  assert.equal(shown!.instance_ip, "10.30.0.2");
  assert.equal(shown!.publicip, "192.0.2.7");
  assert.equal(shown!.host_port, 6080);
  assert.equal(shown!.cpu_percent, "1.23");
  assert.equal(shown!.memory, "1000000");
  assert.equal(shown!.cluster_location, "48,11,1000");
  assert.equal(shown!.last_modified_timestamp, 1_700_000_000.5);
});

test("before the first deployment a service has no status, whatever its descriptor says", () => {
  const document = serviceDocument(service, [], around());
  assert.ok(!("status" in document) && !("status_detail" in document));
  assert.deepEqual(document.instance_list, []);
});

test("a report of an older generation is not shown", () => {
  const [shown] = serviceDocument(service, [instance], around(1)).instance_list;
  assert.equal(shown!.publicip, "");
});

test("aggregateStatus() shows what is most urgent, and RUNNING only when all run", () => {
  const of = (...statuses: InstanceStatus[]) =>
    aggregateStatus(statuses.map((status, number) => ({ number, status, detail: `d${number}` })));
  const cases: [InstanceStatus[], string | undefined, string | undefined][] = [
    [[], undefined, undefined],
    [["RUNNING"], "RUNNING", "d0"],
    [["RUNNING", "RUNNING"], "RUNNING", "2 of 2: d0"],
    [["RUNNING", "PULLING"], "PULLING", "1 of 2: d1"],
    [["RUNNING", "COMPLETED"], "RUNNING", "1 of 2: d0"],
    [["COMPLETED"], "COMPLETED", "d0"],
    [["REQUESTED", "FAILED", "RUNNING"], "FAILED", "1 of 3: d1"],
    [["NO_WORKER_CAPACITY", "CREATING"], "NO_WORKER_CAPACITY", "1 of 2: d0"],
  ];
  for (const [statuses, status, detail] of cases) {
    assert.equal(of(...statuses)?.status, status, statuses.join());
    assert.equal(of(...statuses)?.detail, detail, statuses.join());
  }
  for (const status of Object.keys(STATUS) as InstanceStatus[]) assert.equal(of(status)?.status, status);
});

test("a cluster's document is complete before and after its first report; integers have no fraction", () => {
  const cluster = { id: CLUSTER, name: "test", location: "somewhere", ip: "192.0.2.1" };
  const free = { sum: 1500, mean: 750, deviation: 10 };
  const all = {
    workers: 2,
    cpuMillisTotal: 3500,
    memoryBytesTotal: 3_000_000_001,
    cpuMillisFree: free,
    memoryBytesFree: free,
    gpusFree: { ...free, sum: 0 },
  };
  const aggregate = {
    all,
    byArchitecture: { amd64: all },
    virtualization: ["container"],
    cpuPercent: 1.5,
    memoryPercent: 2.5,
  };
  const before = clusterDocument(cluster, { active: false, aggregate: undefined, heardAt: 1000 });
  const after = clusterDocument(cluster, { active: true, aggregate, heardAt: 1500 });
  for (const document of [before, after]) {
    assert.ok(z.safeParse(ClusterDocument, document).success);
    assert.equal(document._id, CLUSTER);
    for (const value of Object.values(document)) assert.notEqual(value, null);
  }
  assert.deepEqual(before.virtualization, []);
  assert.equal(after.total_cpu_cores, 3);
  assert.equal(after.memory_in_mb, 2861);
  assert.equal(after.active_nodes, 2);
  assert.equal(after.last_modified_timestamp, 1.5);
});

test("a user's document has no hash", () => {
  const document = userDocument({
    id: ID,
    name: "ann",
    email: "",
    passwordHash: "scrypt$secret",
    roles: ["Admin"],
    createdAt: Date.UTC(2026, 10, 24, 3, 57, 10),
    tokenEpoch: 0,
  });
  assert.doesNotMatch(JSON.stringify(document), /scrypt|hash|password/i);
  assert.equal(document.created_at, "24/11/2026 03:57");
});

test("each constraint that has no effect is warned of once", () => {
  const constraints = [
    { type: "latency" as const, area: "munich", threshold: 1 },
    { type: "addons" as const, needs: ["a"] },
    { type: "addons" as const, needs: ["b"] },
    { type: "direct" as const, cluster: "a" },
  ];
  const connectivity = [
    { target_microservice: "db", con_constraints: [{ type: "bandwidth" as const, threshold: 1 }] },
    { target_microservice: "db", con_constraints: [{ type: "latency" as const, threshold: 1 }] },
  ];
  assert.deepEqual(descriptorWarnings({ constraints, connectivity }), [
    'constraint "addons" is kept, but this version does not enforce it',
    'constraint "bandwidth" is kept, but this version does not enforce it',
  ]);
});

test("encode() wraps marked bodies for the 2023 scripts only", () => {
  assert.deepEqual(encode([1], true, "plain"), [1]);
  assert.deepEqual(encode([1], false, "atc23"), [1]);
  assert.equal(encode([1], true, "atc23"), "[1]");
});

test("parseJson() tells where, and refuses what only exhausts", () => {
  const details = (text: string) => {
    try {
      return parseJson(text);
    } catch (error) {
      return error as { code: string; message: string; details: Record<string, unknown> };
    }
  };
  for (const [text, position] of [
    ['{"a":\n 1,}', 9],
    ['{"a": "b', 8],
    ["{", 1],
  ] as const) {
    const error = details(text) as { code: string; details: Record<string, unknown> };
    assert.equal(error.code, "INVALID_JSON", text);
    assert.equal(error.details.position, position, text);
  }
  assert.match((details("hello") as Error).message, /hello/);
  const deep = details("[".repeat(100_000) + "]".repeat(100_000)) as { code: string };
  assert.equal(deep.code, "INVALID_BODY");
  assert.deepEqual(details('["[[\\"", "\\\\"]'), ['[["', "\\"]);
});

test("readBody() wants JSON and says so", async () => {
  const request = (type: string | undefined) =>
    ({ headers: { "content-type": type }, text: async () => "{}" }) as unknown as Parameters<typeof readBody>[0];
  for (const type of ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x+json"])
    assert.deepEqual(await readBody(request(type), z.object({})), {});
  for (const type of [undefined, "", "text/plain", "application/jsonx", "multipart/form-data"])
    await assert.rejects(readBody(request(type), z.object({})), (error) => hasCode(error, "UNSUPPORTED_MEDIA_TYPE"));
});

test("the OpenAPI document has every route, and its references resolve", () => {
  const document = openapiDocument("1.2.3") as {
    openapi: string;
    info: { version: string };
    paths: Record<string, Record<string, { operationId: string; parameters?: { name: string; in: string }[] }>>;
    components: { schemas: Record<string, unknown> };
  };
  assert.equal(document.openapi, "3.1.0");
  assert.equal(document.info.version, "1.2.3");
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods));
  assert.equal(operations.length, ROUTES.length);
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, ROUTES.length);
  for (const [path, methods] of Object.entries(document.paths)) {
    const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const { parameters = [] } of Object.values(methods))
      assert.deepEqual(
        parameters.filter((one) => one.in === "path").map(({ name }) => name),
        named,
      );
  }
  const text = JSON.stringify(document);
  for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
    assert.ok(name! in document.components.schemas, name);
  assert.equal(text.match(/"\$ref"/g)!.length, text.match(/"\$ref":"#\/components\/schemas\//g)!.length);
  for (const code of Object.keys(ERROR_CODES)) assert.ok(code === "PROTOCOL_UNSUPPORTED" || text.includes(code), code);
});
