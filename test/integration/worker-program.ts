/** A worker with the real adapters, alone in a process, so that a test can kill it: <cluster URL> <state folder> [<image archive>] */
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { resolveSettings } from "../../src/base/settings.ts";
import { LinuxNetwork } from "../../src/net/linux-network.ts";
import { ContainerdRuntime } from "../../src/runtime/containerd/containerd-runtime.ts";
import { WORKER_SETTINGS } from "../../src/worker/settings.ts";
import { createWorker } from "../../src/worker/worker.ts";

const [cluster, stateDir, archive] = process.argv.slice(2);
const write = (line: string) => void process.stderr.write(line);
const log = createLogger({ level: "debug", format: "text", write, now: Date.now });
const clock = systemClock;
const flags = { cluster, stateDir };
const settings = resolveSettings(WORKER_SETTINGS, { flags, environment: {} }).values;
const { subnet, ociRuntime } = settings;
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
const runtime = new ContainerdRuntime({ socket: settings.containerdSocket, ociRuntime, log, clock });
const network = new LinuxNetwork({ stateDir: settings.stateDir, subnet, log, clock });
if (archive) await runtime.images.load(archive, stop.signal);
await createWorker(settings, { runtime, network, log, clock, clusterToken: async () => "token" }).run(stop.signal);
runtime.close();
