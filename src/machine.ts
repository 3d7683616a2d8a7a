/** The runtime and the network of this machine: what a worker works on, and what commands on the machine itself need of them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "./base/clock.ts";
import type { Logger } from "./base/log.ts";
import type { ImageTool } from "./cli/edge.ts";
import type { Network } from "./net/network.ts";
import type { Overlay } from "./net/overlay.ts";
import type { ContainerRuntime } from "./runtime/container-runtime.ts";
import type { WorkerSettings } from "./worker/settings.ts";

interface Deps {
  readonly log: Logger;
  readonly clock: Clock;
}

const PURGE_GRACE_MS = 2000;

export async function openMachine(
  settings: Pick<WorkerSettings, "containerdSocket" | "ociRuntime" | "stateDir" | "subnet" | "fastPath">,
  { log, clock }: Deps,
): Promise<{ runtime: ContainerRuntime; network: Network & Overlay }> {
  const { ContainerdRuntime } = await import("./runtime/containerd/containerd-runtime.ts");
  const { LinuxNetwork } = await import("./net/linux-network.ts");
  const { containerdSocket: socket, ociRuntime, stateDir, subnet } = settings;
  const fastPath = settings.fastPath === "on";
  return {
    runtime: new ContainerdRuntime({ socket, ociRuntime, log, clock }),
    network: new LinuxNetwork({ stateDir, subnet, fastPath, log, clock }),
  };
}

/** Removes every instance of this machine with its network; resolves with their number. */
export async function purgeMachine(
  settings: { containerdSocket: string; stateDir: string },
  deps: Deps,
  signal: AbortSignal,
): Promise<number> {
  const { WORKER_SETTINGS } = await import("./worker/settings.ts");
  const defaults = { ociRuntime: WORKER_SETTINGS.ociRuntime.default, subnet: undefined, fastPath: "off" } as const;
  const { runtime, network } = await openMachine({ ...defaults, ...settings }, deps);
  const containers = await runtime.list(signal);
  await Promise.all(
    containers.map(async ({ containerId }) => {
      await runtime.stop(containerId, PURGE_GRACE_MS, signal);
      await runtime.remove(containerId, signal);
    }),
  );
  await network.start(signal);
  await network.stop({ purge: true });
  return containers.length;
}

export async function openImageTool(socket: string, { log, clock }: Deps): Promise<ImageTool> {
  const { ContainerdRuntime } = await import("./runtime/containerd/containerd-runtime.ts");
  const runtime = new ContainerdRuntime({ socket, log, clock });
  return {
    async build(file, signal) {
      const { buildImage } = await import("./runtime/image-build.ts");
      const folder = await mkdtemp(join(tmpdir(), "oak-image-"));
      try {
        const archive = join(folder, "image.tar");
        await buildImage(file, archive);
        return await runtime.images.load(archive, signal);
      } finally {
        await rm(folder, { recursive: true });
      }
    },
    load: (path, signal) => runtime.images.load(path, signal),
    list: (signal) => runtime.images.list(signal),
    remove: (reference, signal) => runtime.images.remove(reference, signal),
    close: () => runtime.close(),
  };
}
