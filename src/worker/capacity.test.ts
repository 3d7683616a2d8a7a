import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { test } from "node:test";
import { ownAddress } from "../base/own-address.ts";
import { MachineLoad, measureMachine, ociArchitecture, parseCpuTimes, parseMemory } from "./capacity.ts";

test("architectures have OCI's names", () => {
  assert.deepEqual(["x64", "arm64", "arm", "ia32"].map(ociArchitecture), ["amd64", "arm64", "arm", "386"]);
});

test("memory and CPU times are read from the kernel's text", () => {
  const meminfo = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:    1024 kB\n";
  assert.deepEqual(parseMemory(meminfo), { totalBytes: 2_097_152, availableBytes: 1_048_576 });
  const stat = "cpu  10 1 5 70 10 1 2 1 99 99\ncpu0 1 1 1 1\n";
  assert.deepEqual(parseCpuTimes(stat), { busy: 20, total: 100 });
});

test("a machine offers what it has, less the reserve, and is between idle and fully loaded", async () => {
  const all = await measureMachine(0);
  assert.ok(all.memoryBytes > 0 && all.memoryBytes <= totalmem());
  assert.ok(all.cpuMillis > 0);
  assert.equal((await measureMachine(1024)).memoryBytes, all.memoryBytes - 1024);
  assert.equal((await measureMachine(2 ** 60)).memoryBytes, 1024 * 1024, "never nothing");
  const load = await new MachineLoad().measure();
  for (const percent of [load.cpuPercent, load.memoryPercent]) assert.ok(percent >= 0 && percent <= 100);
});

test("ownAddress() is an address of this machine", async () => {
  assert.match(await ownAddress("127.0.0.1"), /^\d+\.\d+\.\d+\.\d+$/);
  assert.match(await ownAddress("name.invalid"), /^\d+\.\d+\.\d+\.\d+$/);
});
