/** Names that users give: one rule for all, because every name is a DNS label of a service's semantic name. */
import * as z from "zod/mini";

/**
 * 1–30 letters, digits and inner dashes. The upstream rule plus the dash; dots, underscores and everything else are refused,
 * since names are joined by dots into job names, container ids and DNS names.
 */
export const Name = z.string().check(
  z.regex(/^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,28}[a-zA-Z0-9])?$/, {
    error: (issue) => `${quote(issue.input)} is not a valid name: use 1 to 30 letters, digits and inner dashes`,
  }),
);

/** Quotes hostile text for an error message: JSON-escaped, at most 60 characters. */
export function quote(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

export const Id = z
  .string()
  .check(z.regex(/^[0-9a-f]{24}$/, { error: (issue) => `${quote(issue.input)} is not an id: 24 hex characters` }));

/** `<app>.<app_ns>.<service>.<service_ns>`, unique in the whole installation. */
export function jobName(names: {
  app: string;
  appNamespace: string;
  service: string;
  serviceNamespace: string;
}): string {
  return `${names.app}.${names.appNamespace}.${names.service}.${names.serviceNamespace}`;
}

/** The containerd container id, by which existing tools attach. */
export function containerId(job: string, instanceNumber: number): string {
  return `${job}.instance.${instanceNumber}`;
}

/** Identity of an instance for ever: numbers are never re-used, service ids never repeat. */
export function instanceId(serviceId: string, instanceNumber: number): string {
  return `${serviceId}-${instanceNumber}`;
}

export const InstanceId = z.string().check(z.regex(/^[0-9a-f]{24}-\d{1,9}$/));
