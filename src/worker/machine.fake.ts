/** A machine with the fakes of a worker's ports, on which workers come and go. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { resolveSettings } from "../base/settings.ts";
import { FakeNetwork } from "../net/network.fake.ts";
import { FakeContainerRuntime } from "../runtime/container-runtime.fake.ts";
import { WORKER_SETTINGS } from "./settings.ts";
import { createWorker } from "./worker.ts";

export async function startMachine() {
  const stateDir = await mkdtemp(join(tmpdir(), "oak-worker-"));
  const runtime = new FakeContainerRuntime();
  runtime.addImage("docker.io/library/web:latest");
  const network = new FakeNetwork();
  return {
    ...{ stateDir, runtime, network },
    start(clusterUrl: string, flags: Record<string, unknown> = {}, clusterToken = async () => "token") {
      const all = {
        cluster: clusterUrl,
        stateDir,
        hostname: "edge1",
        publicIp: "192.0.2.1",
        controlSocket: join(stateDir, "worker.sock"),
        ...flags,
      };
      const settings = resolveSettings(WORKER_SETTINGS, { flags: all, environment: {} }).values;
      const worker = createWorker(settings, {
        ...{ runtime, network, clusterToken, log: silentLogger, clock: systemClock, version: "1" },
        probes: { address: "127.0.0.1", port: 0 },
      });
      const stop = new AbortController();
      const ended = worker.run(stop.signal);
      return {
        ready: worker.ready,
        async [Symbol.asyncDispose]() {
          stop.abort();
          await ended;
        },
      };
    },
    [Symbol.asyncDispose]: () => rm(stateDir, { recursive: true, force: true }),
  };
}

export async function eventually(isTrue: () => boolean, what: string, withinMs = 5000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!isTrue()) {
    assert.ok(performance.now() < end, `not in time: ${what}`);
    await systemClock.sleep(5);
  }
}
