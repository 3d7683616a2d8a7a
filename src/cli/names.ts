/** Finds what a user means by a name or an id. Pure: the candidates are given. */
import { AppError } from "../base/errors.ts";
import { quote } from "../protocol/names.ts";

export interface Named {
  readonly id: string;
  /** Every spelling by which it may be called, the full one first. */
  readonly names: readonly string[];
}

export interface InstanceReference {
  readonly service: string;
  /** Absent: all instances of the service. */
  readonly number?: number;
}

/**
 * The one thing that is called `reference`.
 * @throws AppError NAME_UNKNOWN | NAME_AMBIGUOUS, listing what there is
 */
export function resolve<T extends Named>(kind: string, reference: string, candidates: readonly T[]): T {
  const byId = candidates.find((candidate) => candidate.id === reference);
  if (byId) return byId;
  const matches = candidates.filter((candidate) => candidate.names.includes(reference));
  if (matches.length === 1) return matches[0]!;
  if (matches.length > 1) {
    throw new AppError("NAME_AMBIGUOUS", `${quote(reference)} may be ${listed(matches)}: say which`);
  }
  const there = candidates.length === 0 ? `There is no ${kind} at all` : `There are: ${listed(candidates)}`;
  throw new AppError("NAME_UNKNOWN", `There is no ${kind} ${quote(reference)}. ${there}`);
}

/** `shop.prod` and, where one such application exists, `shop`. */
export function applicationNames(application: { application_name: string; application_namespace: string }): string[] {
  return [`${application.application_name}.${application.application_namespace}`, application.application_name];
}

/** `app.ns.web.ns`, `app.web`, `web`. */
export function serviceNames(service: {
  app: string;
  appNamespace: string;
  name: string;
  namespace: string;
}): string[] {
  return [
    `${service.app}.${service.appNamespace}.${service.name}.${service.namespace}`,
    `${service.app}.${service.name}`,
    service.name,
  ];
}

/**
 * `web/2`, `web`, or one of the two ids of an instance: `<service id>-2`, and `<full name>.instance.2`, by which
 * containerd knows its container.
 */
export function parseInstance(text: string): InstanceReference {
  const match =
    /^(.+)\/(\d{1,9})$/.exec(text) ??
    /^([0-9a-f]{24})-(\d{1,9})$/.exec(text) ??
    /^(.+)\.instance\.(\d{1,9})$/.exec(text);
  if (match) return { service: match[1]!, number: Number(match[2]) };
  if (text.includes("/")) {
    throw new AppError("USAGE", `${quote(text)} does not name an instance: write SERVICE/NUMBER, for example web/0`);
  }
  return { service: text };
}

function listed(candidates: readonly Named[]): string {
  const shown = candidates.slice(0, 10).map(({ id, names }) => (names[0] ? `${names[0]} (${id})` : id));
  return shown.join(", ") + (candidates.length > 10 ? ` and ${candidates.length - 10} more` : "");
}
