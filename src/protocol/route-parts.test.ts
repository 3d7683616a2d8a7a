import assert from "node:assert/strict";
import { test } from "node:test";
import { RouteUpdate, type ServiceRoute } from "./route.ts";
import { interestParts, updateParts, updateText } from "./route-parts.ts";

const keys = (count: number) => Array.from({ length: count }, (_, index) => `name:s${index}`);

const table = (index: number, instances: number): ServiceRoute => ({
  serviceId: `s${index}`,
  applicationId: "a".repeat(24),
  jobName: "application.namespace.service.namespace",
  generation: 1,
  roundRobin: "10.30.255.254",
  closest: "10.30.255.253",
  instances: Array.from({ length: instances }, (_, number) => ({
    number,
    address: "10.30.100.100",
    live: { sandbox: "10.18.100.100", workerId: "b".repeat(24) },
  })),
  workers: [{ id: "b".repeat(24), address: "192.168.100.100", subnets: ["10.18.100.0/26"] }],
});

test("an interest is told in parts, of which only the first is full", () => {
  assert.deepEqual(interestParts({ full: false, add: [], remove: [] }), []);
  assert.deepEqual(interestParts({ full: true, add: [], remove: [] }), [{ full: true, add: [], remove: [] }]);
  const parts = interestParts({ full: true, add: keys(12_000), remove: keys(1) });
  assert.deepEqual(
    parts.map(({ full, add, remove }) => [full, add.length, remove.length]),
    [
      [true, 5000, 0],
      [false, 5000, 0],
      [false, 2000, 0],
      [false, 0, 1],
    ],
  );
});

test("an update is told in parts that fit, answers first, and says the same", () => {
  const update: RouteUpdate = {
    tables: [...Array.from({ length: 2000 }, (_, index) => table(index, 3)), table(2000, 5000)],
    answers: keys(5000).map((key) => ({ key, serviceIds: ["s1", "s2"] })),
    gone: ["s9"],
  };
  const parts = updateParts(update);
  const texts = parts.map((part) => updateText(part, JSON.stringify));
  assert.deepEqual(
    texts.map((text) => RouteUpdate.parse(JSON.parse(text))),
    parts,
  );
  assert.deepEqual(
    parts.flatMap(({ tables }) => tables),
    update.tables,
  );
  assert.deepEqual(
    parts.flatMap(({ answers }) => answers),
    update.answers,
  );
  assert.ok(
    parts.findLastIndex(({ answers }) => answers.length > 0) <= parts.findIndex(({ tables }) => tables.length > 0),
  );
  const alone = parts.findIndex(({ tables }) => tables.some(({ serviceId }) => serviceId === "s2000"));
  for (const [index, text] of texts.entries()) assert.ok(text.length <= (index === alone ? 1_000_000 : 524_288));
});
