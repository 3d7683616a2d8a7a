import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { describeProblems, validate } from "../base/validation.ts";
import { spread, upperBound } from "./capacity.ts";
import { Descriptor } from "./descriptor.ts";
import { ERROR_CODES } from "./error-codes.ts";
import { healthcheck } from "./healthcheck.ts";
import { type InstanceStatus, isTerminal, mayFollow, STATUS } from "./instance.ts";
import { parseTopic, topics } from "./mqtt.ts";
import { Name } from "./names.ts";
import { parsePorts } from "./ports.ts";

const microservice = {
  microserviceID: "",
  microservice_name: "curl",
  microservice_namespace: "test",
  virtualization: "container",
  memory: 50,
  vcpus: 1,
  storage: 0,
  code: "docker.io/library/nginx:latest",
};
const descriptor = (change: object = {}, app: object = {}) => ({
  sla_version: "v2.0",
  customerID: "Admin",
  applications: [
    {
      applicationID: "",
      application_name: "clientsrvr",
      application_namespace: "abcde",
      application_desc: "",
      microservices: [{ ...microservice, ...change }],
      ...app,
    },
  ],
});
const problemsOf = (value: unknown) => {
  const result = validate(Descriptor, value);
  return result.ok ? "" : describeProblems(result.problems);
};

test("names are 1 to 30 letters, digits and inner dashes", () => {
  for (const name of ["a", "nettime", "iperf", "clientsrvr", "My-App-2", "x".repeat(30)])
    assert.ok(validate(Name, name).ok, name);
  for (const name of [
    "",
    "a.b",
    "a/b",
    "a b",
    "../x",
    "a;b",
    "$(id)",
    "`id`",
    "ä",
    "日本",
    "-a",
    "a-",
    "a_b",
    "x".repeat(31),
    "a\n",
    "\0",
    7,
    null,
  ]) {
    assert.ok(!validate(Name, name).ok, JSON.stringify(name));
  }
});

test("the descriptor keeps unknown keys", () => {
  const result = validate(Descriptor, descriptor({ my_gpu_model: "x" }, { team: { a: 1 } }));
  assert.ok(result.ok);
  assert.equal(result.value.applications[0]!.team !== undefined, true);
  assert.equal((result.value.applications[0]!.microservices[0] as Record<string, unknown>).my_gpu_model, "x");
});

test("each wrong value is refused by a problem that names its field", () => {
  const wrong: [object, RegExp][] = [
    [{ memory: -1 }, /microservices\[0\]\.memory/],
    [{ memory: 1e18 }, /memory/],
    [{ memory: "50" }, /memory/],
    [{ memory: Number.NaN }, /memory/],
    [{ vcpus: 1.5 }, /vcpus/],
    [{ code: "" }, /code/],
    [{ code: undefined }, /code/],
    [{ port: "80:99999" }, /port 99999/],
    [{ port: "80;80" }, /mapped twice/],
    [{ port: "50105:80/udp" }, /host port 50105 is reserved/],
    [{ port: "$(id)" }, /not a port mapping/],
    [{ port: 80 }, /port/],
    [{ cmd: "ls" }, /cmd/],
    [{ environment: ["A"] }, /KEY=value/],
    [{ environment: ["A=\0"] }, /environment/],
    [{ constraints: [{ type: "nearby" }] }, /unknown constraint type/],
    [{ microservice_name: "a b" }, /not a valid name/],
    [{ healthcheck: { type: "icmp" } }, /unknown healthcheck type/],
    [{ healthcheck: { type: "http" } }, /healthcheck\.port/],
    [{ healthcheck: { type: "http", port: 80, path: "health" } }, /must begin with \//],
    [{ healthcheck: { type: "tcp", port: 80, interval: 0 } }, /healthcheck\.interval/],
    [{ healthcheck: { type: "tcp", port: 80, intervall: 5 } }, /healthcheck.*intervall/],
    [{ healthcheck: { type: "exec", command: [] } }, /healthcheck\.command/],
  ];
  for (const [change, expected] of wrong) assert.match(problemsOf(descriptor(change)), expected);
  assert.match(problemsOf({ ...descriptor(), sla_version: "v1.0" }), /use "v2.0"/);
  assert.match(problemsOf({ sla_version: "v2.0" }), /applications/);
  for (const value of [null, 1, "x", []]) assert.notEqual(problemsOf(value), "");
});

test("a healthcheck reaches the worker complete", () => {
  const timing = { intervalMs: 10_000, timeoutMs: 3000, retries: 3, startPeriodMs: 0 };
  assert.deepEqual(healthcheck({ type: "http", port: 80 }), { type: "http", port: 80, path: "/", ...timing });
  assert.deepEqual(
    healthcheck({ type: "exec", command: ["true"], interval: 1, timeout: 2, retries: 1, start_period: 4 }),
    {
      ...{ type: "exec", command: ["true"] },
      ...{ intervalMs: 1000, timeoutMs: 2000, retries: 1, startPeriodMs: 4000 },
    },
  );
});

test("parsePorts() never throws, and what it accepts is in range", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9:;/tcpud]{0,30}$/)), (text) => {
      const ports = parsePorts(text);
      if ("error" in ports) return;
      for (const { hostPort, containerPort } of ports)
        assert.ok(hostPort >= 1 && hostPort <= 65535 && containerPort >= 1 && containerPort <= 65535);
    }),
  );
  assert.deepEqual(parsePorts("6080:80/tcp;53:53/udp;8080"), [
    { hostPort: 6080, containerPort: 80, protocol: "tcp" },
    { hostPort: 53, containerPort: 53, protocol: "udp" },
    { hostPort: 8080, containerPort: 8080, protocol: "tcp" },
  ]);
});

test("every status names only known successors, terminal ones only lead to removal, and every other can be withdrawn", () => {
  for (const [status, row] of Object.entries(STATUS)) {
    for (const next of row.next) assert.ok(next in STATUS, `${status} -> ${next}`);
    if (status !== "UNDEPLOYED") assert.ok(mayFollow(status as InstanceStatus, "UNDEPLOYED"), status);
  }
  assert.ok(isTerminal("COMPLETED") && !mayFollow("COMPLETED", "RUNNING") && !mayFollow("UNDEPLOYED", "REQUESTED"));
});

test("every status that waits for a tier has a deadline", () => {
  for (const status of [
    "REQUESTED",
    "CLUSTER_SCHEDULED",
    "NODE_SCHEDULED",
    "PULLING",
    "CREATING",
    "DEAD",
    "FAILED",
  ] as const)
    assert.ok(STATUS[status].deadlineMs > 0);
});

test("topics parse back to what they were built from, and foreign ones do not parse", () => {
  const worker = "0123456789abcdef01234567";
  const instance = `${worker}-3`;
  assert.deepEqual(parseTopic(topics.desired(worker, instance)), {
    kind: "desired",
    workerId: worker,
    instanceId: instance,
  });
  for (const kind of ["manifest", "report", "presence", "check", "checked"] as const)
    assert.deepEqual(parseTopic(topics[kind](worker)), { kind, workerId: worker });
  assert.equal(parseTopic(topics.logData(worker))?.kind, "logData");
  for (const topic of ["", "workers/x/report", `workers/${worker}/report/x`, "$SYS/a", `workers/${worker}/desired/+`])
    assert.equal(parseTopic(topic), undefined);
});

test("upperBound() is never below the largest value", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1e6 }), { minLength: 1, maxLength: 50 }), (values) => {
      assert.ok(upperBound(spread(values), values.length) >= Math.max(...values) - 1e-3);
    }),
  );
});

test("error codes carry client or server error statuses", () => {
  for (const [code, row] of Object.entries(ERROR_CODES)) assert.ok(row.status >= 400 && row.status < 600, code);
});
