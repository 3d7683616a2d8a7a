/** A worker as operators see it. Pure. */
import type { Liveness } from "../hierarchy/children.ts";
import type { InstanceReport } from "../protocol/instance.ts";
import type { Candidate } from "../scheduler/candidate.ts";
import type { Instance, Worker } from "./model.ts";
import { workerRemark } from "./worker-remark.ts";
import type { Contact } from "./workers.ts";

export type WorkerDocument = ReturnType<typeof workerDocument>;

export function workerDocument(parts: {
  readonly worker: Worker;
  readonly contact: Contact;
  readonly status: Liveness;
  readonly free: Candidate["free"];
  readonly instances: readonly {
    readonly instance: Instance;
    readonly report: Pick<InstanceReport, "status" | "detail">;
  }[];
}) {
  const { worker, contact, status, free, instances } = parts;
  const { info } = worker;
  return {
    id: worker.id,
    hostname: worker.hostname,
    status,
    /** Epoch ms of its last word. */
    since: contact.heardSince,
    architecture: info.architecture,
    cpu_millis: info.cpuMillis,
    cpu_millis_free: free.cpuMillis,
    memory_bytes: info.memoryBytes,
    memory_bytes_free: free.memoryBytes,
    public_ip: info.publicIp,
    runtime: info.runtime,
    version: info.version,
    labels: info.labels,
    cpu_percent: contact.cpuPercent,
    memory_percent: contact.memoryPercent,
    malformed_messages: contact.malformed,
    /** Why it is not active, or what else is odd about it. */
    detail: workerRemark(status, contact),
    /** What it said of its place in the overlay that cannot be true. */
    ...(contact.refused === undefined ? {} : { refused: contact.refused }),
    instances: instances.map(({ instance: { assignment }, report }) => ({
      instanceId: assignment.instanceId,
      jobName: assignment.jobName,
      instanceNumber: assignment.instanceNumber,
      status: report.status,
      detail: report.detail,
    })),
  };
}
