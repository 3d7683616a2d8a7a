import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ContainerSpec } from "./container-runtime.ts";
import type { HostFacts } from "./host-facts.ts";
import { formatReference, normalizeReference, parseReference } from "./image-reference.ts";
import { choosePlatform, type Descriptor, hostPlatform } from "./oci-image.ts";
import { mergeEnvironment, ociSpec } from "./oci-spec.ts";
import { needsLookup, resolveUser } from "./oci-user.ts";
import { explainStartFailure } from "./start-failure.ts";

const spec: ContainerSpec = {
  ...{ containerId: "a.b.c.d.instance.0", instanceId: "i", generation: 1, image: "x", environment: [], hostname: "h" },
  ...{ limits: {}, logPath: "/log", labels: {} },
};
const host: HostFacts = {
  ...{ architecture: "amd64", cgroupVersion: 1, hasSwapLimit: true, hasUnprivilegedPorts: true, hasSeccomp: true },
};
const root = { uid: 0, gid: 0, additionalGids: [] };

interface Oci {
  process: {
    args: string[];
    env: string[];
    cwd: string;
    noNewPrivileges: boolean;
    capabilities: Record<string, string[]>;
  };
  mounts: { destination: string; source: string; options: string[] }[];
  annotations: Record<string, string>;
  linux: {
    resources: { memory: object; cpu: object; pids?: object; devices: object[] };
    namespaces: { type: string; path?: string }[];
    devices: object[];
    sysctl: object;
    seccomp?: object;
  };
}

function make(more: Partial<ContainerSpec> = {}, facts: Partial<HostFacts> = {}, user = root): Oci {
  const config = { Entrypoint: ["/run"], Cmd: ["a"], Env: ["PATH=/x", "A=1"], WorkingDir: "/w" };
  const input = { spec: { ...spec, ...more }, config, user, host: { ...host, ...facts }, cgroupsPath: "/p/id" };
  return ociSpec(input) as Oci;
}

test("ociSpec() takes command, environment and folder from the image unless the spec names them", () => {
  const { process } = make({ environment: ["A=2", "B=$(x)"] });
  assert.deepEqual([process.args, process.cwd], [["/run", "a"], "/w"]);
  assert.deepEqual(process.env, ["PATH=/x", "A=2", "B=$(x)"]);
  assert.deepEqual(make({ command: ["/other"] }).process.args, ["/other"]);
  assert.throws(() => ociSpec({ spec, config: {}, user: root, host, cgroupsPath: "/" }), { code: "COMMAND_NOT_FOUND" });
});

test("ociSpec() turns limits into what the kernel wants", () => {
  const table: [ContainerSpec["limits"], Partial<HostFacts>, object][] = [
    [{}, {}, { memory: {}, cpu: {}, pids: undefined }],
    [{ memoryBytes: 0, cpuMillis: 0, pids: 0 }, {}, { memory: {}, cpu: {}, pids: undefined }],
    [{ memoryBytes: 100 }, {}, { memory: { limit: 100, swap: 100 }, cpu: {}, pids: undefined }],
    [{ memoryBytes: 100 }, { hasSwapLimit: false }, { memory: { limit: 100 }, cpu: {}, pids: undefined }],
    [
      { cpuMillis: 250, pids: 9 },
      {},
      { memory: {}, cpu: { quota: 25_000, period: 100_000, shares: 256 }, pids: { limit: 9 } },
    ],
    [{ cpuMillis: 1 }, {}, { memory: {}, cpu: { quota: 1000, period: 100_000, shares: 2 }, pids: undefined }],
  ];
  for (const [limits, facts, expected] of table) {
    const { devices: _, ...rest } = make({ limits }, facts).linux.resources;
    assert.deepEqual(rest, expected);
  }
});

test("ociSpec() gives root Docker's capabilities, others none, and nobody new privileges", () => {
  const asRoot = make().process;
  assert.equal(asRoot.capabilities.effective?.length, 14);
  assert.ok(!asRoot.capabilities.bounding?.includes("CAP_SYS_ADMIN"));
  const asUser = make({}, {}, { ...root, uid: 5 }).process;
  assert.deepEqual([asUser.capabilities.effective, asUser.capabilities.permitted], [[], []]);
  assert.ok(asRoot.noNewPrivileges && asUser.noNewPrivileges);
});

test("ociSpec() joins the sandbox's network, else makes an empty one, and never shares the host's", () => {
  const network = (more: Partial<ContainerSpec>) => make(more).linux.namespaces.find(({ type }) => type === "network");
  assert.deepEqual(network({}), { type: "network" });
  assert.deepEqual(network({ networkNamespace: "/run/n" }), { type: "network", path: "/run/n" });
  const types = make({}, { cgroupVersion: 2 }).linux.namespaces.map(({ type }) => type);
  assert.deepEqual(types.sort(), ["cgroup", "ipc", "mount", "network", "pid", "uts"]);
});

test("ociSpec() adds what is asked for, and only then", () => {
  const plain = make({}, { hasSeccomp: false, hasUnprivilegedPorts: false });
  assert.deepEqual(
    [plain.linux.devices, plain.annotations, plain.linux.sysctl, plain.linux.seccomp],
    [[], {}, {}, undefined],
  );
  const full = make({ fuse: true, shimGroup: "g", resolvConf: "/r", hostsFile: "/h" });
  assert.equal(full.linux.resources.devices.length, 2);
  assert.equal(full.annotations["io.containerd.runc.v2.group"], "g");
  const bound = full.mounts
    .filter(({ options }) => options.includes("bind"))
    .map(({ source, destination }) => [source, destination]);
  assert.deepEqual(bound, [
    ["/r", "/etc/resolv.conf"],
    ["/h", "/etc/hosts"],
  ]);
});

test("mergeEnvironment() lets later values win in the place of the earlier", () => {
  assert.deepEqual(mergeEnvironment(["A=1", "B=2"], ["A=3", "C="]), ["A=3", "B=2", "C="]);
});

test("resolveUser() reads the image's passwd and group", () => {
  const files = { passwd: "root:x:0:0::\napp:x:10:20::\n", group: "app:x:20:\nweb:x:30:app,x\nadm:x:31:x\n" };
  const table: [string, object | undefined][] = [
    ["", root],
    ["root", root],
    ["0", root],
    ["1000", { uid: 1000, gid: 0, additionalGids: [] }],
    ["1000:7", { uid: 1000, gid: 7, additionalGids: [] }],
    ["app", { uid: 10, gid: 20, additionalGids: [30] }],
    ["10", { uid: 10, gid: 20, additionalGids: [30] }],
    ["app:web", { uid: 10, gid: 30, additionalGids: [] }],
    ["0:web", { uid: 0, gid: 30, additionalGids: [] }],
    ["nobody", undefined],
    ["app:none", undefined],
    ["99999999999", undefined],
    ["-1", undefined],
  ];
  for (const [user, expected] of table) {
    if (expected) assert.deepEqual(resolveUser(user, files), expected, user);
    else assert.throws(() => resolveUser(user, files), { code: "START_FAILED" }, user);
  }
  assert.deepEqual(["", "root", "5:6", "app", "5"].map(needsLookup), [false, false, false, true, true]);
});

test("normalizeReference() makes one name of all spellings", () => {
  const digest = `sha256:${"a".repeat(64)}`;
  const table: [string, string | undefined][] = [
    ["nginx", "docker.io/library/nginx:latest"],
    ["nginx:alpine", "docker.io/library/nginx:alpine"],
    ["team/web", "docker.io/team/web:latest"],
    ["docker.io/nginx", "docker.io/library/nginx:latest"],
    ["localhost/x", "localhost/x:latest"],
    ["127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"],
    [`ghcr.io/a@${digest}`, `ghcr.io/a@${digest}`],
    [`ghcr.io/a:1@${digest}`, `ghcr.io/a:1@${digest}`],
    ["", undefined],
    ["Nginx", undefined],
    ["a b", undefined],
    ["a:b:c", undefined],
    ["a@sha256:12", undefined],
    ["../etc", undefined],
    ["a/../b", undefined],
    ["http://a/b", undefined],
    ["a:$(x)", undefined],
    ["x".repeat(600), undefined],
  ];
  for (const [text, expected] of table) {
    if (expected) assert.equal(normalizeReference(text), expected);
    else assert.throws(() => normalizeReference(text), { code: "IMAGE_NAME_INVALID" }, text);
  }
});

test("a normalised reference stays as it is, whatever it was", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9.:/@_-]{1,40}$/), (text) => {
      let name: string;
      try {
        name = normalizeReference(text);
      } catch {
        return true;
      }
      return normalizeReference(name) === name && formatReference(parseReference(name)) === name;
    }),
  );
});

test("choosePlatform() takes this machine's manifest and names the others when there is none", () => {
  const entry = (architecture: string | undefined, os = "linux"): Descriptor => ({
    ...{ mediaType: "m", digest: `sha256:${"0".repeat(64)}`, size: 1 },
    ...(architecture === undefined ? {} : { platform: { os, architecture } }),
  });
  const own = entry(hostPlatform.architecture);
  const manifests = [entry("s390x"), entry("unknown"), entry(hostPlatform.architecture, "windows"), own];
  assert.equal(choosePlatform({ manifests }, hostPlatform, "x"), own);
  const unnamed = entry(undefined);
  assert.equal(choosePlatform({ manifests: [unnamed] }, hostPlatform, "x"), unnamed);
  assert.throws(() => choosePlatform({ manifests: [entry("s390x")] }, hostPlatform, "x"), {
    code: "IMAGE_PLATFORM",
    message: `Image "x" is for linux/s390x; this machine is linux/${hostPlatform.architecture}`,
  });
});

test("explainStartFailure() finds the code in the OCI runtime's words", () => {
  const wrap = (text: string) =>
    `failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: ${text}: unknown`;
  const table: [string, string][] = [
    [wrap('exec: "nope": executable file not found in $PATH'), "COMMAND_NOT_FOUND"],
    [wrap('exec: "/nope": stat /nope: no such file or directory'), "COMMAND_NOT_FOUND"],
    [wrap('exec: "/etc": permission denied'), "COMMAND_NOT_FOUND"],
    [wrap("error during container init: exec /app: exec format error"), "IMAGE_PLATFORM"],
    [wrap("container init was OOM-killed (memory limit too low?)"), "MEMORY_TOO_LOW"],
    [wrap("unable to set memory limit to 1 (current usage: 2, peak usage: 3)"), "MEMORY_TOO_LOW"],
    [wrap('error mounting "/r" to rootfs at "/etc/resolv.conf": no such file or directory'), "START_FAILED"],
  ];
  for (const [message, code] of table) assert.equal(explainStartFailure("x", new Error(message)).code, code, message);
  assert.equal(
    explainStartFailure("x", new Error(table[0]![0])).message,
    'Cannot start "x": exec: "nope": executable file not found in $PATH',
  );
});
