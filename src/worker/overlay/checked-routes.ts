/** A worker's routes with what came of measuring them, as its cluster asks for them. Pure. */
import { type CheckedRoutes, type InstanceName, MAX_CHECKED, MAX_NAMED } from "../../protocol/net-check.ts";
import type { NetCheck, NetDocument } from "../../protocol/net-document.ts";

type Result = Omit<NetCheck["checks"][number], "worker_id" | "bytes">;

export function checkedRoutes({ services, peers }: NetDocument, { checks }: NetCheck): CheckedRoutes {
  const refused: InstanceName[] = [];
  const namesOn = new Map<string, InstanceName[]>();
  for (const { job_name, instances } of services) {
    for (const { number, sandbox, worker_id } of instances) {
      const list = sandbox === undefined ? refused : namesOn.get(worker_id ?? "");
      if (list) list.push({ job_name, number });
      else namesOn.set(worker_id ?? "", [{ job_name, number }]);
    }
  }
  const resultOf = new Map<string, Result>(checks.map(({ worker_id, bytes: _, ...result }) => [worker_id, result]));
  const routes = peers.slice(0, MAX_CHECKED).map(({ id, address, path, rtt_ms, overlay_rtt_ms }) => {
    const names = namesOn.get(id) ?? [];
    const { error, ...figures } = resultOf.get(id) ?? { error: "not tried: it has no subnet" };
    // Probes are rare: where not even a connection came about, the last answer to one tells nothing of now.
    const rtt = figures.connect_ms === undefined ? undefined : (overlay_rtt_ms ?? rtt_ms);
    return {
      ...{ worker_id: id, address, path },
      ...(rtt === undefined ? {} : { rtt_ms: rtt }),
      ...figures,
      ...(error === undefined ? {} : { error: error.slice(0, 500) }),
      instances: names.slice(0, MAX_NAMED),
      more_instances: Math.max(0, names.length - MAX_NAMED),
    };
  });
  return {
    ...{ routes, refused: refused.slice(0, MAX_CHECKED) },
    left_out: Math.max(0, peers.length - MAX_CHECKED) + Math.max(0, refused.length - MAX_CHECKED),
  };
}
