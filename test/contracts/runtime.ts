/** What every ContainerRuntime does, whatever runs the containers. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Container, ContainerRuntime, ContainerSpec, RuntimeEvent } from "../../src/runtime/container-runtime.ts";
import { eventually } from "../support/lab-host.ts";

export interface RuntimeUnderTest {
  /** A client of the same runtime that knows nothing yet. */
  connect(): ContainerRuntime;
  /** Archives with one image each: */
  readonly archives: Readonly<Record<ImageKind, string>>;
  /** Where a container may write its output. */
  logPath(containerId: string): string;
  setAvailable(available: boolean): Promise<void>;
  stop(): Promise<void>;
}

/** `sleep` ends on SIGTERM with 0, `stubborn` ignores it, `exit3` ends at once, `oom` takes memory, `foreign` is for another machine. */
export type ImageKind = "sleep" | "stubborn" | "exit3" | "oom" | "foreign";
export const imageName = (kind: ImageKind) => `oakestra.test/${kind}:latest`;

export function runtimeContract(name: string, setUp: () => Promise<RuntimeUnderTest>): void {
  describe(`${name} as ContainerRuntime`, () => {
    let under: RuntimeUnderTest;
    let runtime: ContainerRuntime;
    let count = 0;
    const signal = new AbortController().signal;

    before(async () => {
      under = await setUp();
      runtime = under.connect();
      for (const kind of ["sleep", "stubborn", "exit3", "oom"] as const)
        await runtime.images.load(under.archives[kind], signal);
    });
    after(() => under?.stop());

    const makeSpec = (image: ImageKind, more: Partial<ContainerSpec> = {}): ContainerSpec => {
      count += 1;
      const containerId = more.containerId ?? `app.ns.${image}.ns.instance.${count}`;
      return {
        ...{ containerId, instanceId: `instance-${count}`, generation: 1, image: imageName(image) },
        ...{ environment: [], hostname: "test", limits: {}, logPath: under.logPath(containerId), labels: {} },
        ...more,
      };
    };
    const find = async (containerId: string, from = runtime): Promise<Container | undefined> =>
      (await from.list(signal)).find((container) => container.containerId === containerId);
    const hasEnded = (containerId: string) =>
      eventually(async () => (await find(containerId))?.state === "exited", { what: "the container's end" });

    test("list() tells what start() was given, also to another client, while it runs", async () => {
      const spec = makeSpec("sleep", { generation: 7, labels: { "test/a": "b" } });
      await runtime.start(spec, signal);
      const container = await find(spec.containerId, under.connect());
      assert.equal(container?.state, "running");
      assert.equal(container.instanceId, spec.instanceId);
      assert.equal(container.generation, 7);
      assert.equal(container.labels["test/a"], "b");
      assert.ok(container.pid! > 0);
      assert.ok(Math.abs(container.createdAt - Date.now()) < 60_000);
      await runtime.remove(spec.containerId, signal);
    });

    test("start() of what runs already changes nothing; of another instance under its id, it refuses", async () => {
      const spec = makeSpec("sleep");
      await runtime.start(spec, signal);
      const { pid } = (await find(spec.containerId))!;
      await runtime.start(spec, signal);
      assert.equal((await find(spec.containerId))?.pid, pid);
      await assert.rejects(runtime.start({ ...spec, instanceId: "other" }, signal), { code: "START_FAILED" });
      assert.equal((await find(spec.containerId))?.pid, pid);
      await runtime.remove(spec.containerId, signal);
    });

    test("start() replaces a dead container of the same id", async () => {
      const spec = makeSpec("exit3");
      await runtime.start(spec, signal);
      await hasEnded(spec.containerId);
      await runtime.start({ ...spec, image: imageName("sleep"), instanceId: "next" }, signal);
      const container = await find(spec.containerId);
      assert.deepEqual([container?.state, container?.instanceId], ["running", "next"]);
      await runtime.remove(spec.containerId, signal);
    });

    test("stop() ends a process that heeds SIGTERM at once, and the one that does not after its grace", async () => {
      for (const [kind, graceMs, expected] of [
        ["sleep", 20_000, [0, 143]],
        ["stubborn", 200, [137]],
      ] as const) {
        const spec = makeSpec(kind);
        await runtime.start(spec, signal);
        const began = performance.now();
        await runtime.stop(spec.containerId, graceMs, signal);
        assert.ok(performance.now() - began < 10_000);
        const container = await find(spec.containerId);
        assert.equal(container?.state, "exited");
        assert.ok((expected as readonly number[]).includes(container.exitCode!), `exit code ${container.exitCode}`);
        await runtime.stop(spec.containerId, graceMs, signal);
        await runtime.remove(spec.containerId, signal);
      }
    });

    test("remove() takes away what runs, and what is not there", async () => {
      const spec = makeSpec("stubborn");
      await runtime.start(spec, signal);
      await runtime.remove(spec.containerId, signal);
      assert.equal(await find(spec.containerId), undefined);
      await runtime.remove(spec.containerId, signal);
      await runtime.stop(spec.containerId, 1000, signal);
    });

    test("events() tells of exits with their codes, and of OOM kills", async () => {
      const listening = new AbortController();
      const seen: RuntimeEvent[] = [];
      const listen = (async () => {
        for await (const event of runtime.events(listening.signal)) seen.push(event);
      })();
      // Nothing tells when a subscription has begun.
      await eventually(async () => {
        const probe = makeSpec("exit3");
        await runtime.start(probe, signal);
        await runtime.remove(probe.containerId, signal);
        return seen.length > 0;
      });
      const exits = makeSpec("exit3");
      const ooms = makeSpec("oom", { limits: { memoryBytes: 16 * 1024 * 1024 } });
      await runtime.start(exits, signal);
      await runtime.start(ooms, signal);
      const ofContainer = (id: string) => seen.filter(({ containerId }) => containerId === id);
      await eventually(() => ofContainer(exits.containerId).length > 0 && ofContainer(ooms.containerId).length > 1);
      const [exit] = ofContainer(exits.containerId);
      assert.ok(exit?.type === "exited" && exit.exitCode === 3);
      assert.ok(Math.abs(exit.exitedAt - Date.now()) < 60_000);
      assert.deepEqual(new Set(ofContainer(ooms.containerId).map(({ type }) => type)), new Set(["exited", "oom"]));
      assert.equal((await find(exits.containerId))?.exitCode, 3);
      listening.abort();
      await assert.rejects(listen, { name: "AbortError" });
      for (const { containerId } of [exits, ooms]) await runtime.remove(containerId, signal);
    });

    test("exec() runs a command in the container and tells how it ended", async () => {
      const spec = makeSpec("sleep");
      const shell = (script: string, timeoutMs = 10_000) =>
        runtime.exec(spec.containerId, ["/bin/sh", "-c", script], { timeoutMs }, signal);
      await assert.rejects(shell("exit 0"), { code: "NOT_RUNNING" });
      await runtime.start(spec, signal);
      assert.deepEqual(await shell("exit 0"), { exitCode: 0 });
      assert.deepEqual(await Promise.all([shell("exit 3"), shell("exit 4")]), [{ exitCode: 3 }, { exitCode: 4 }]);
      await assert.rejects(shell("sleep 100", 500), { code: "EXEC_TIMEOUT" });
      const missing = runtime.exec(spec.containerId, ["/does-not-exist"], { timeoutMs: 10_000 }, signal);
      await assert.rejects(missing, { code: "COMMAND_NOT_FOUND" });
      assert.equal((await find(spec.containerId))?.state, "running");
      await runtime.stop(spec.containerId, 5000, signal);
      await assert.rejects(shell("exit 0"), { code: "NOT_RUNNING" });
      await runtime.remove(spec.containerId, signal);
    });

    test("usage() has the running containers", async () => {
      const spec = makeSpec("sleep");
      await runtime.start(spec, signal);
      const usage = (await runtime.usage(signal)).get(spec.containerId);
      assert.ok(usage && usage.memoryBytes > 0 && usage.cpuNanos > 0);
      await runtime.remove(spec.containerId, signal);
    });

    for (const [what, code, more] of [
      ["an image that is not there", "IMAGE_MISSING", { image: "oakestra.test/unknown:1" }],
      ["a command that the image does not have", "COMMAND_NOT_FOUND", { command: ["/does-not-exist"] }],
      ["too little memory to begin", "MEMORY_TOO_LOW", { limits: { memoryBytes: 64 * 1024 } }],
    ] as const) {
      test(`start() refuses ${what} with ${code}, and leaves nothing`, async () => {
        const spec = makeSpec("sleep", more);
        await assert.rejects(runtime.start(spec, signal), { code });
        assert.equal(await find(spec.containerId), undefined);
      });
    }

    test("load() refuses an image for another architecture and names both", async () => {
      await assert.rejects(runtime.images.load(under.archives.foreign, signal), (error: Error) => {
        assert.equal((error as { code?: string }).code, "IMAGE_PLATFORM");
        return error.message.includes("s390x");
      });
      assert.ok(!(await runtime.images.list(signal)).some(({ name }) => name === imageName("foreign")));
    });

    test("images are found by any spelling of their name, listed, and removed once", async () => {
      const image = await runtime.images.ensure("oakestra.test/sleep", {}, signal);
      assert.equal(image.name, imageName("sleep"));
      assert.equal(await runtime.images.has("oakestra.test/sleep", signal), true);
      assert.equal(await runtime.images.has("oakestra.test/none", signal), false);
      const listed = (await runtime.images.list(signal)).find(({ name }) => name === image.name);
      assert.equal(listed?.digest, image.digest);
      assert.ok(listed.sizeBytes > 0 && listed.platforms.length === 1);
      await runtime.images.remove(imageName("exit3"), signal);
      await assert.rejects(runtime.images.remove(imageName("exit3"), signal), { code: "IMAGE_NOT_FOUND" });
      const [again] = await runtime.images.load(under.archives.exit3, signal);
      assert.equal(again?.name, imageName("exit3"));
      await assert.rejects(runtime.images.has("Not A Name!", signal), { code: "IMAGE_NAME_INVALID" });
      await assert.rejects(runtime.images.ensure("Not A Name!", {}, signal), { code: "IMAGE_NAME_INVALID" });
    });

    test("an aborted call ends with the signal's reason", async () => {
      const reason = new Error("enough");
      await assert.rejects(runtime.list(AbortSignal.abort(reason)), reason);
    });

    test("without the runtime every call fails with RUNTIME_UNAVAILABLE; when it is back, so are the containers", async () => {
      const spec = makeSpec("sleep");
      await runtime.start(spec, signal);
      const events = runtime.events(signal)[Symbol.asyncIterator]();
      const next = assert.rejects(events.next(), { code: "RUNTIME_UNAVAILABLE" });
      await runtime.list(signal);
      await under.setAvailable(false);
      await next;
      await assert.rejects(runtime.list(signal), { code: "RUNTIME_UNAVAILABLE" });
      await assert.rejects(runtime.start(makeSpec("sleep"), signal), { code: "RUNTIME_UNAVAILABLE" });
      await assert.rejects(runtime.images.ensure(imageName("sleep"), {}, signal), { code: "RUNTIME_UNAVAILABLE" });
      await under.setAvailable(true);
      assert.equal((await find(spec.containerId))?.state, "running");
      await runtime.stop(spec.containerId, 5000, signal);
      await runtime.remove(spec.containerId, signal);
      assert.deepEqual(await runtime.list(signal), []);
    });
  });
}
