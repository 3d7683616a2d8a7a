/** What this worker would do with a packet, as data: of what is in the kernel now, not of what should be. */
import type { NetCheck, NetDocument, NetPeer, NetService } from "../../protocol/net-document.ts";
import type { ServiceRoute } from "../../protocol/route.ts";
import { CHECK_BYTES, sendBody } from "./path-check.ts";
import { gatewayOf } from "./place.ts";
import type { WorkerOverlay } from "./worker-overlay.ts";

export function netDocument(overlay: WorkerOverlay): NetDocument {
  const { kernel, routes, endpoint } = overlay;
  return {
    ...(endpoint && { worker: endpoint }),
    services: kernel.applied.services.flatMap((service): NetService[] => {
      const table = routes.tables.get(service.id);
      if (!table) return [];
      const { closestTarget, roundRobin, closest } = service;
      return [
        {
          ...{ service_id: service.id, job_name: table.jobName, round_robin: roundRobin, closest },
          ...(closestTarget === undefined ? {} : { closest_target: closestTarget }),
          instances: service.instances.map(({ address, sandbox }) => ({
            ...{ number: numberOf(table, address), address },
            ...(sandbox === undefined ? {} : { sandbox, ...workerOf(overlay, table, { address, sandbox }) }),
          })),
        },
      ];
    }),
    peers: kernel.applied.peers.map((peer) => ({
      ...peer,
      subnets: [...peer.subnets],
      ...qualityOf(overlay, peer.id),
    })),
  };
}

/** A body to each other worker, one after the other. @param now monotonic ms @param withinMs who has no turn by then gets none */
export async function netCheck(
  overlay: WorkerOverlay,
  now: () => number,
  { signal, withinMs = Number.POSITIVE_INFINITY }: { readonly signal: AbortSignal; readonly withinMs?: number },
): Promise<NetCheck> {
  const checks: NetCheck["checks"] = [];
  const until = now() + withinMs;
  for (const { id, subnets } of overlay.kernel.applied.peers) {
    const [subnet] = subnets;
    if (subnet === undefined) continue;
    const leftMs = Math.floor(until - now());
    if (leftMs <= 0) {
      const error = `not tried: the ${withinMs / 1000} s for all routes of this worker were over`;
      checks.push({ worker_id: id, bytes: CHECK_BYTES, error });
      continue;
    }
    const result = await sendBody(gatewayOf(subnet), now, { signal, withinMs: leftMs });
    checks.push({
      ...{ worker_id: id, bytes: CHECK_BYTES },
      ...(result.connectMs === undefined ? {} : { connect_ms: round(result.connectMs) }),
      ...("error" in result ? { error: result.error } : { body_ms: round(result.bodyMs) }),
    });
  }
  return { checks };
}

function numberOf({ instances }: ServiceRoute, address: string): number {
  return instances.find((instance) => instance.address === address)?.number ?? -1;
}

function workerOf(
  { endpoint, sandboxes }: WorkerOverlay,
  { instances }: ServiceRoute,
  { address, sandbox }: { readonly address: string; readonly sandbox: string },
): { worker_id?: string } {
  const isHere = sandboxes.some((own) => own.address === sandbox);
  const workerId = isHere ? endpoint?.id : instances.find((one) => one.address === address)?.live?.workerId;
  return workerId === undefined ? {} : { worker_id: workerId };
}

function qualityOf({ prober }: WorkerOverlay, id: string): Pick<NetPeer, "rtt_ms" | "overlay_rtt_ms" | "missed"> {
  const [underlay, overlay] = [prober.quality(id, "underlay"), prober.quality(id, "overlay")];
  return {
    ...(underlay?.rttMs === undefined ? {} : { rtt_ms: round(underlay.rttMs) }),
    ...(overlay?.rttMs === undefined ? {} : { overlay_rtt_ms: round(overlay.rttMs) }),
    missed: overlay?.missed ?? 0,
  };
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
