import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { silentLogger } from "../base/log.ts";
import type { DesiredInstance, Manifest } from "../protocol/mqtt.ts";
import { desiredInstance, desiredSet } from "./builders.fake.ts";
import { DesiredAssembly } from "./desired.ts";
import { DesiredFile } from "./desired-file.ts";

const manifestOf = (revision: number, instances: readonly DesiredInstance[]): Manifest => ({
  revision,
  instances: instances.map(({ instanceId, generation }) => ({ instanceId, generation })),
});
const web = desiredInstance({ instanceNumber: 0 });
const api = desiredInstance({ instanceNumber: 1 });

test("a manifest is taken over when its last instance has arrived, whichever comes first", () => {
  const assembly = new DesiredAssembly();
  assert.equal(assembly.manifest(manifestOf(1, [web, api])), false);
  assert.equal(assembly.instance(web), false);
  assert.equal(assembly.current, undefined);
  assert.equal(assembly.instance(api), true);
  assert.deepEqual(assembly.current, desiredSet([web, api]));
  assert.equal(assembly.instance(api), false, "a doubled message changes nothing");
});

test("an older or doubled manifest of the same connection is ignored; after a reconnect the broker's word counts", () => {
  const assembly = new DesiredAssembly();
  assembly.instance(web);
  assembly.manifest(manifestOf(7, [web]));
  assert.equal(assembly.manifest(manifestOf(6, [])), false);
  assert.equal(assembly.current?.instances.size, 1);
  assembly.disconnected();
  assert.equal(assembly.manifest(manifestOf(3, [])), true);
  assert.equal(assembly.current?.instances.size, 0);
});

test("a cleared topic withdraws nothing, and an instance known from disk need not come again", () => {
  const assembly = new DesiredAssembly();
  assembly.restore(desiredSet([web], 4));
  assembly.cleared(web.instanceId);
  assert.equal(assembly.current?.instances.size, 1);
  assembly.instance(api);
  assert.equal(assembly.manifest(manifestOf(5, [web, api])), true);
  assert.deepEqual([...assembly.current!.instances.keys()], [web.instanceId, api.instanceId]);
});

test("other content of the same generation is taken over with its manifest, whichever comes first", () => {
  const assembly = new DesiredAssembly();
  const standby = { ...web, standby: true };
  const standbyNow = () => assembly.current?.instances.get(web.instanceId)?.standby;
  assembly.restore(desiredSet([standby, api], 4));
  assert.equal(assembly.instance(web), false, "not before its manifest");
  assert.equal(standbyNow(), true);
  assert.equal(assembly.manifest(manifestOf(5, [web, api])), true);
  assert.equal(standbyNow(), undefined);
  assembly.disconnected();
  assembly.manifest(manifestOf(6, [web, api]));
  assert.equal(assembly.instance(standby), true);
  assert.equal(standbyNow(), true);
  assert.equal(assembly.instance(standby), false, "a doubled message changes nothing");
});

test("a newer generation does not replace the older one before its manifest comes", () => {
  const assembly = new DesiredAssembly();
  assembly.instance(web);
  assembly.manifest(manifestOf(1, [web]));
  const newer = { ...web, generation: 2 };
  assert.equal(assembly.instance(newer), false);
  assert.equal(assembly.current?.instances.get(web.instanceId)?.generation, 1);
  assert.equal(assembly.manifest(manifestOf(2, [newer])), true);
  assert.equal(assembly.current?.instances.get(web.instanceId)?.generation, 2);
});

test("property: topics that overtake each other and doubled messages end in the newest set, and never show a mixture", () => {
  const history = fc.array(
    fc.uniqueArray(fc.record({ number: fc.nat(4), isMadeAnew: fc.boolean() }), {
      selector: ({ number }) => number,
    }),
    { minLength: 1, maxLength: 5 },
  );
  fc.assert(
    fc.property(history, fc.infiniteStream(fc.nat(1000)), (sets, choices) => {
      const generations = new Map<number, number>();
      const known = sets.map((set) =>
        set.map(({ number, isMadeAnew }) => {
          const generation = (generations.get(number) ?? 1) + (isMadeAnew ? 1 : 0);
          generations.set(number, generation);
          return desiredInstance({ instanceNumber: number, generation });
        }),
      );
      const topics = messagesByTopic(known);
      const assembly = new DesiredAssembly();
      const valid = new Set(known.map((set, index) => fingerprint(index + 1, set)));
      const pick = () => Number(choices.next().value);
      while (topics.some((topic) => topic.length > 0)) {
        const waiting = topics.filter((topic) => topic.length > 0);
        const topic = waiting[pick() % waiting.length]!;
        const deliver = topic.shift()!;
        for (let times = 1 + (pick() % 2); times > 0; times--) deliver(assembly);
        const { current } = assembly;
        if (current) assert.ok(valid.has(fingerprint(current.revision, [...current.instances.values()])));
      }
      assert.equal(assembly.current?.revision, known.length);
    }),
  );
});

/** One queue a topic: MQTT keeps the order within a topic only. */
function messagesByTopic(sets: readonly (readonly DesiredInstance[])[]): ((to: DesiredAssembly) => void)[][] {
  const topics = new Map<string, ((to: DesiredAssembly) => void)[]>();
  const add = (topic: string, message: (to: DesiredAssembly) => void) =>
    topics.set(topic, [...(topics.get(topic) ?? []), message]);
  sets.forEach((set, index) => {
    for (const instance of set) add(instance.instanceId, (to) => to.instance(instance));
    add("manifest", (to) => to.manifest(manifestOf(index + 1, set)));
  });
  return [...topics.values()];
}

const fingerprint = (revision: number, set: readonly DesiredInstance[]) =>
  `${revision}: ${set.map(({ instanceId, generation }) => `${instanceId}@${generation}`).sort()}`;

test("the desired set and completions survive on disk; completions of withdrawn instances go", async () => {
  const folder = await mkdtemp(join(tmpdir(), "oak-desired-"));
  try {
    const path = join(folder, "desired.json");
    const file = new DesiredFile({ path, log: silentLogger });
    assert.equal(await file.read(), undefined);
    file.keep(desiredSet([web, api], 3));
    await file.complete(web.instanceId, 1, 42);
    const next = new DesiredFile({ path, log: silentLogger });
    assert.deepEqual(await next.read(), desiredSet([web, api], 3));
    assert.deepEqual(next.completed, { [web.instanceId]: { generation: 1, endedAt: 42 } });
    next.keep(desiredSet([api], 4));
    assert.deepEqual(next.completed, {});
    await next.run(AbortSignal.abort());
    const last = new DesiredFile({ path, log: silentLogger });
    assert.deepEqual(await last.read(), desiredSet([api], 4), "the end of the loop still writes");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a broken desired file is as good as none", async () => {
  const folder = await mkdtemp(join(tmpdir(), "oak-desired-"));
  try {
    const path = join(folder, "desired.json");
    for (const content of ["", "{", '{"revision":1}']) {
      await writeFile(path, content);
      assert.equal(await new DesiredFile({ path, log: silentLogger }).read(), undefined);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});
