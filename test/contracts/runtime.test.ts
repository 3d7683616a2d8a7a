/** The port's contract on the fake and on a real containerd, and what only the real one can show. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FakeContainerRuntime } from "../../src/runtime/container-runtime.fake.ts";
import type { ContainerSpec } from "../../src/runtime/container-runtime.ts";
import type { ContainerdRuntime } from "../../src/runtime/containerd/containerd-runtime.ts";
import { eventually } from "../support/lab-host.ts";
import { type ImageKind, imageName, runtimeContract } from "./runtime.ts";
import { layerOf, type Registry, type RuntimeLab, serveImage, startRegistry, startRuntimeLab } from "./runtime-lab.ts";

const SCRIPTS: Readonly<Record<ImageKind, string>> = {
  sleep: "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done",
  stubborn: "trap '' TERM; while :; do sleep 1; done",
  exit3: "exit 3",
  oom: "x=0123456789abcdef; while :; do x=$x$x; done",
  foreign: "exit 0",
};
const signal = new AbortController().signal;

runtimeContract("FakeContainerRuntime", async () => {
  const runtime = new FakeContainerRuntime();
  const images = {
    sleep: {},
    stubborn: { ignoresTerm: true },
    exit3: { exitsWith: 3 },
    oom: { ooms: true },
    foreign: {},
  };
  for (const [kind, image] of Object.entries(images)) {
    const platforms = kind === "foreign" ? ["linux/s390x"] : ["linux/amd64"];
    runtime.archives.set(kind, { [imageName(kind as ImageKind)]: { ...image, platforms, programs: ["/bin/sh"] } });
  }
  return {
    connect: () => runtime,
    archives: { sleep: "sleep", stubborn: "stubborn", exit3: "exit3", oom: "oom", foreign: "foreign" },
    logPath: (containerId) => containerId,
    setAvailable: async (available) => runtime.setAvailable(available),
    stop: async () => {},
  };
});

runtimeContract("ContainerdRuntime", async () => {
  const lab = await startRuntimeLab();
  const archives = {} as Record<ImageKind, string>;
  for (const [kind, script] of Object.entries(SCRIPTS) as [ImageKind, string][]) {
    archives[kind] = await lab.archive(imageName(kind), script, kind === "foreign" ? { architecture: "s390x" } : {});
  }
  return {
    connect: () => lab.connect(),
    archives,
    logPath: (containerId) => join(lab.folder, `${containerId}.log`),
    setAvailable: (available) => (available ? lab.startContainerd() : lab.killContainerd()),
    stop: () => lab.stop(),
  };
});

describe("ContainerdRuntime on containerd", () => {
  let lab: RuntimeLab;
  let runtime: ContainerdRuntime;
  let sleepArchive: string;
  const registries: Registry[] = [];

  before(async () => {
    lab = await startRuntimeLab();
    runtime = lab.connect();
    sleepArchive = await lab.archive(imageName("sleep"), SCRIPTS.sleep);
    await runtime.images.load(sleepArchive, signal);
  });
  after(async () => {
    for (const registry of registries) await registry.stop();
    await lab?.stop();
  });

  const makeSpec = (containerId: string, more: Partial<ContainerSpec> = {}): ContainerSpec => ({
    ...{ containerId, instanceId: containerId, generation: 1, image: imageName("sleep"), environment: [] },
    ...{ hostname: "test", limits: {}, logPath: join(lab.folder, `${containerId}.log`), labels: {} },
    ...more,
  });
  /** Runs a command to its end and gives its output. */
  const output = async (command: readonly string[], more: Partial<ContainerSpec> = {}) => {
    const spec = makeSpec(`out.${Math.random().toString(36).slice(2)}`, { command, ...more });
    await runtime.start(spec, signal);
    await eventually(async () =>
      (await runtime.list(signal)).every(
        ({ containerId, state }) => containerId !== spec.containerId || state === "exited",
      ),
    );
    await runtime.remove(spec.containerId, signal);
    return readFileSync(spec.logPath, "utf8");
  };
  const residue = async () => ({
    containers: (await lab.ctr("containers", "ls", "-q")).trim(),
    tasks: (await lab.ctr("tasks", "ls", "-q")).trim(),
    leases: (await lab.ctr("leases", "ls", "-q")).trim(),
    active: (await lab.ctr("snapshots", "ls")).split("\n").filter((line) => line.includes("Active")),
    shims: await shims(),
  });
  const shims = async () =>
    Number((await lab.host.run(["sh", "-c", "pgrep -fc '[c]ontainerd-shim-runc-v2' || true"])).stdout);

  test("arguments and environment reach the process as they are", async () => {
    const hostile = ["$(reboot)", "a b", "q\"uo'te", "`id`", "é\n\tx", "*", "--", ""];
    const command = [
      "/bin/sh",
      "-c",
      'for a in "$@"; do printf "<%s>" "$a"; done; printf "%s" "$HOSTILE"',
      "sh",
      ...hostile,
    ];
    assert.equal(
      await output(command, { environment: ["HOSTILE=$(x) \"'\n;", "PATH=/bin"] }),
      `${hostile.map((word) => `<${word}>`).join("")}$(x) "'\n;`,
    );
  });

  test("limits, identity, mounts and capabilities are what the specification says", async () => {
    const resolvConf = join(lab.folder, "resolv.conf");
    const seen = await output(
      [
        "/bin/sh",
        "-c",
        "hostname; cat /proc/self/status; cat /etc/resolv.conf; cat /proc/self/cgroup; ls /dev; ls /proc/kcore; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null",
      ],
      { limits: { memoryBytes: 64 * 1024 * 1024, cpuMillis: 250, pids: 20 }, resolvConf, fuse: true },
    );
    assert.match(seen, /^test$/m);
    assert.match(seen, /^CapEff:\t00000000a80425fb$/m);
    assert.match(seen, /^NoNewPrivs:\t1$/m);
    assert.match(seen, /^Seccomp:\t2$/m);
    assert.match(seen, /^67108864$/m);
    assert.match(seen, /^fuse$/m);
    assert.ok(seen.includes(readFileSync(resolvConf, "utf8")));
  });

  test("an image's user is looked up in the image, and has no capabilities", async () => {
    const passwd = join(lab.folder, "passwd");
    writeFileSync(passwd, "root:x:0:0::/:/bin/sh\napp:x:1234:1235::/:/bin/sh\n");
    writeFileSync(join(lab.folder, "group"), "app:x:1235:\nextra:x:1300:app\n");
    const files = ["passwd", "group"].map((name) => ({ source: join(lab.folder, name), target: `/etc/${name}` }));
    const busybox = { source: "/bin/busybox", target: "/bin/busybox" };
    const archive = await lab.archive("oakestra.test/user:1", "id; cat /proc/self/status", {
      user: "app",
      files: [busybox, ...files],
    });
    await runtime.images.load(archive, signal);
    const seen = await output(["/bin/sh", "-c", "id; cat /proc/self/status"], { image: "oakestra.test/user:1" });
    assert.match(seen, /uid=1234\(app\) gid=1235\(app\) groups=.*1300\(extra\)/);
    assert.match(seen, /^CapEff:\t0000000000000000$/m);
  });

  test("a command in a container has its user, environment and limits, and leaves no process when it is given up", async () => {
    const spec = makeSpec("exec", { environment: ["WHERE=here"], limits: { pids: 50 } });
    await runtime.start(spec, signal);
    const shell = (script: string, timeoutMs: number, until = signal) =>
      runtime.exec(spec.containerId, ["/bin/sh", "-c", script], { timeoutMs }, until);
    const facts = 'test "$WHERE" = here && test "$(hostname)" = test && grep -q "^NoNewPrivs:.1$" /proc/self/status';
    assert.deepEqual(await shell(facts.replace("grep -q", "busybox grep -q"), 5000), { exitCode: 0 });
    const sleepers = async () => (await lab.host.run(["sh", "-c", "pgrep -fc '[s]leep 12345' || true"])).stdout.trim();
    await assert.rejects(shell("exec sleep 12345", 300), { code: "EXEC_TIMEOUT" });
    const giveUp = new AbortController();
    const running = shell("exec sleep 12345", 60_000, giveUp.signal);
    await eventually(async () => (await sleepers()) === "1");
    giveUp.abort(new Error("enough"));
    await assert.rejects(running, { message: "enough" });
    await eventually(async () => (await sleepers()) === "0");
    assert.equal((await runtime.list(signal))[0]?.state, "running");
    await runtime.remove(spec.containerId, signal);
  });

  test("ids longer than containerd's are kept whole", async () => {
    const long = `${"a".repeat(30)}.${"b".repeat(30)}.${"c--d".repeat(7)}.${"e".repeat(30)}.instance.12`;
    await runtime.start(makeSpec(long, { logPath: join(lab.folder, "long.log") }), signal);
    const fresh = lab.connect();
    assert.ok((await fresh.list(signal)).some(({ containerId }) => containerId === long));
    assert.ok((await fresh.usage(signal)).has(long));
    await runtime.remove(long, signal);
    assert.deepEqual(await runtime.list(signal), []);
  });

  test("failed starts leave no container, snapshot, task, lease or shim", async () => {
    const before = await residue();
    for (const more of [
      { command: ["/nope"] },
      { limits: { memoryBytes: 4096 } },
      { networkNamespace: "/run/netns/nope" },
      { resolvConf: "/nope" },
    ]) {
      await assert.rejects(runtime.start(makeSpec("fails", more), signal));
    }
    await eventually(async () => (await shims()) === before.shims);
    assert.deepEqual(await residue(), before);
  });

  test("containers of one group share a shim, which survives the first of them", async () => {
    const ids = ["group.1", "group.2", "group.3"];
    for (const id of ids) await runtime.start(makeSpec(id, { shimGroup: "web" }), signal);
    assert.equal(await shims(), 1);
    await runtime.remove("group.1", signal);
    assert.deepEqual(
      (await runtime.list(signal)).map(({ state }) => state),
      ["running", "running"],
    );
    await runtime.start(makeSpec("group.4", { shimGroup: "web" }), signal);
    assert.equal(await shims(), 1);
    for (const id of [...ids, "group.4"]) await runtime.remove(id, signal);
    await eventually(async () => (await shims()) === 0);
    // A start just when the group's shim leaves must not fail.
    for (let round = 0; round < 5; round++) {
      await runtime.start(makeSpec("group.5", { shimGroup: "web" }), signal);
      await runtime.remove("group.5", signal);
    }
  });

  test("a log that is copied and truncated goes on at its beginning", async () => {
    const command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do echo line; sleep 0.05 & wait $!; done"];
    const spec = makeSpec("logs", { command });
    await runtime.start(spec, signal);
    await eventually(() => existsSync(spec.logPath) && statSync(spec.logPath).size > 20);
    truncateSync(spec.logPath);
    await eventually(() => statSync(spec.logPath).size > 10);
    assert.match(readFileSync(spec.logPath, "utf8"), /^(?:line\n)+$/);
    await runtime.remove(spec.containerId, signal);
  });

  test("an image is pulled from a registry once, however many ask, and runs", async () => {
    const registry = await startRegistry(lab.folder);
    registries.push(registry);
    await registry.push(sleepArchive, "team/web:1");
    const reference = `${registry.address}/team/web:1`;
    const progress: number[] = [];
    const options = { onProgress: (done: number, total: number) => void progress.push(done / total) };
    const images = await Promise.all([1, 2, 3].map(() => runtime.images.ensure(reference, options, signal)));
    assert.equal(new Set(images.map(({ digest }) => digest)).size, 1);
    assert.equal(progress.at(-1), 1);
    await runtime.start(makeSpec("pulled", { image: reference }), signal);
    await runtime.remove("pulled", signal);
    await runtime.images.ensure(`${registry.address}/team/web@${images[0]!.digest}`, {}, signal);
    await assert.rejects(runtime.images.ensure(`${registry.address}/team/none:1`, {}, signal), {
      code: "IMAGE_NOT_FOUND",
    });
    await assert.rejects(runtime.images.ensure("127.0.0.1:1/x:1", {}, signal), { code: "REGISTRY_UNREACHABLE" });
    // What was pulled outlives a collection, and nothing else does.
    await runtime.images.remove(imageName("sleep"), signal);
    await runtime.start(makeSpec("pulled", { image: reference }), signal);
    await runtime.remove("pulled", signal);
    await runtime.images.load(sleepArchive, signal);
    assert.equal((await residue()).leases, "");
  });

  test("a registry with passwords gives the image to who has one", async () => {
    const credentials = { username: "ann", password: "s3cret:with colon" };
    const registry = await startRegistry(lab.folder, credentials);
    registries.push(registry);
    await registry.push(await lab.archive("oakestra.test/private:1", "echo private"), "private:1");
    const reference = `${registry.address}/private:1`;
    const refused = { code: "REGISTRY_UNAUTHORIZED" };
    await assert.rejects(runtime.images.ensure(reference, {}, signal), refused);
    const login = { server: registry.address, ...credentials };
    for (const wrong of [{ password: "wrong" }, { server: "elsewhere.test" }])
      await assert.rejects(runtime.images.ensure(reference, { credentials: { ...login, ...wrong } }, signal), refused);
    await runtime.images.ensure(reference, { credentials: login }, signal);
    assert.equal(await output(["/bin/sh", "-c", "echo hi"], { image: reference }), "hi\n");
  });

  test("an image of several layers, compressed or not, is unpacked in their order, users included", async () => {
    writeFileSync(join(lab.folder, "passwd"), "app:x:77:78::/:/bin/sh\n");
    const own = { source: join(lab.folder, "passwd"), target: "/etc/passwd" };
    const upper = await lab.archive("oakestra.test/upper:1", "", { files: [own], links: [] });
    const lower = await layerOf(await lab.archive("oakestra.test/lower:1", ""), true);
    const { reference, stop } = await serveImage([lower, await layerOf(upper)], "app");
    try {
      await runtime.images.ensure(reference, {}, signal);
      assert.match(await output(["/bin/sh", "-c", "id"], { image: reference }), /^uid=77\(app\) gid=78/);
    } finally {
      stop();
    }
  });

  test("a pull that was broken off goes on where it was, and then nothing of that is left", async () => {
    const files = [{ source: "/bin/busybox", target: "/bin/another" }];
    const plain = await layerOf(await lab.archive("oakestra.test/resumed:1", "", { files, links: [] }));
    const layer: { instead: "stall" | undefined } & typeof plain = { ...plain, instead: "stall" };
    const { reference, ranges, stop } = await serveImage([layer]);
    const abort = new AbortController();
    const pull = runtime.images.ensure(reference, {}, abort.signal);
    await eventually(async () => /\s[1-9][\d.]* ?[kKM]i?B\s/.test(await lab.ctr("content", "active")), {
      what: "the beginning of a layer",
    });
    abort.abort(new Error("the link went"));
    await assert.rejects(pull, /the link went/);
    layer.instead = undefined;
    await runtime.images.ensure(reference, {}, signal);
    assert.match(ranges.join(), /^bytes=[1-9]\d*-$/);
    assert.equal((await residue()).leases, "");
    await runtime.images.remove(reference, signal);
    stop();
  });

  test("a pull that is lied to leaves nothing behind", async () => {
    const plain = await layerOf(
      await lab.archive("oakestra.test/broken:1", "", {
        env: ["A=1"],
        files: [{ source: "/bin/busybox", target: "/bin/other" }],
        links: [],
      }),
    );
    const before = { ...(await residue()), content: await lab.ctr("content", "ls", "-q") };
    const noLayer = { ...plain, diffId: `sha256:${"0".repeat(64)}` };
    const lie = Buffer.alloc(plain.bytes.length, 1);
    for (const layer of [{ ...plain, instead: lie }, { ...plain, instead: lie.subarray(1) }, noLayer]) {
      const { reference, stop } = await serveImage([layer]);
      await assert.rejects(runtime.images.ensure(reference, {}, signal), { code: "IMAGE_INVALID" });
      stop();
    }
    await eventually(async () => (await lab.ctr("content", "active")).trim().split("\n").length === 1, {
      what: "no ingest",
    });
    await eventually(async () => (await residue()).leases === "", { what: "no lease" });
    // The collector runs when something was deleted.
    await lab.ctr("leases", "create", "--id", "nudge");
    await lab.ctr("leases", "rm", "--sync", "nudge");
    assert.deepEqual({ ...(await residue()), content: await lab.ctr("content", "ls", "-q") }, before);
  });

  test("images that other tools put there are used", async () => {
    const archive = await lab.archive("oakestra.test/foreign-tool:1", "echo imported");
    await lab.ctr("images", "import", "--no-unpack", archive);
    await runtime.images.ensure("oakestra.test/foreign-tool:1", {}, signal);
    assert.equal(await output(["/bin/sh", "-c", "echo hi"], { image: "oakestra.test/foreign-tool:1" }), "hi\n");
    const foreign = await lab.archive("oakestra.test/other-machine:1", "", { architecture: "s390x" });
    await lab.ctr("images", "import", "--no-unpack", "--all-platforms", foreign);
    const refused = { code: "IMAGE_PLATFORM" };
    await assert.rejects(runtime.images.ensure("oakestra.test/other-machine:1", {}, signal), refused);
    await assert.rejects(
      runtime.start(makeSpec("foreign", { image: "oakestra.test/other-machine:1" }), signal),
      refused,
    );
    assert.ok((await runtime.images.list(signal)).some(({ name }) => name === "oakestra.test/other-machine:1"));
  });
});
