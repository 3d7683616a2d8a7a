/** What the root keeps: plain data, as the store gives and takes it. */
import type { Aggregate } from "../protocol/capacity.ts";
import type { MicroserviceDescriptor } from "../protocol/descriptor.ts";
import type { InstanceReport, InstanceStatus } from "../protocol/instance.ts";

export const ROLES = ["Admin", "Application_Provider", "Infrastructure_Provider"] as const;
export type Role = (typeof ROLES)[number];

export interface User {
  readonly id: string;
  readonly name: string;
  readonly email: string;
  /** Never leaves the store's callers in `auth/`. */
  readonly passwordHash: string;
  readonly roles: readonly Role[];
  /** Epoch ms. */
  readonly createdAt: number;
  /** Raised by a change of password or roles; tokens of an older epoch are refused. */
  readonly tokenEpoch: number;
}

export interface Application {
  readonly id: string;
  readonly owner: string;
  readonly name: string;
  readonly namespace: string;
  readonly description: string;
  /** Keys of the descriptor that we do not know, kept for its clients. */
  readonly extra: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
}

export interface Service {
  readonly id: string;
  readonly applicationId: string;
  readonly owner: string;
  /** `<app>.<app_ns>.<service>.<service_ns>`. */
  readonly jobName: string;
  /** Verbatim, unknown keys included. */
  readonly descriptor: MicroserviceDescriptor;
  /** Its service address by policy. */
  readonly roundRobin: string;
  readonly closest: string;
  /** Numbers are never used twice. */
  readonly nextInstanceNumber: number;
  readonly createdAt: number;
}

export interface Instance {
  readonly id: string;
  readonly serviceId: string;
  readonly number: number;
  /** Its instance address. */
  readonly address: string;
  /** Raised whenever the instance is placed anew. */
  readonly generation: number;
  readonly clusterId?: string | undefined;
  /** What it was placed with: a later change of the service takes effect at the next placement. */
  readonly descriptor?: MicroserviceDescriptor | undefined;
  readonly status: InstanceStatus;
  /** Always says why. */
  readonly detail: string;
  /** Epoch ms since when the status holds. */
  readonly since: number;
  /** The cluster's last word of this generation. */
  readonly report?: InstanceReport | undefined;
  /** To another cluster: going on, or just over. */
  readonly move?: Move | undefined;
}

export interface Move {
  readonly reason: string;
  /** Where it moves or has moved, in words that the reason may follow. */
  readonly note: string;
  /** The cluster that is to be in charge: it starts the instance on standby. */
  readonly successor?: Standby | undefined;
  /** The cluster that was: it goes on until everybody has heard where traffic goes now, and as long as it may have to come back. */
  readonly predecessor?: Standby | undefined;
}

/** A cluster that has an instance of which another is in charge. */
export interface Standby {
  readonly clusterId: string;
  /** Of the assignment there. */
  readonly generation: number;
  /** The cluster's last word of this generation. */
  readonly report?: InstanceReport | undefined;
}

export interface Cluster {
  readonly id: string;
  readonly name: string;
  readonly location: string;
  /** Of the address that its link came from. */
  readonly ip: string;
  readonly aggregate?: Aggregate | undefined;
  /** Epoch ms; written when a link opens or closes, never by a heartbeat. */
  readonly heardAt: number;
}

export interface Registry {
  readonly owner: string;
  readonly name: string;
  readonly server: string;
  readonly username: string;
}
