/**
 * The names that a worker answers for its sandboxes. Pure. Compared without regard to letter case; `<policy>` is `rr`,
 * `round-robin`, `closest` or `instance`; `<n>` is an instance number.
 *
 *   full     any.<policy>.<service>.<service_ns>.<app>.<app_ns>   service address of that policy
 *            <n>.<policy>.<service>.<service_ns>.<app>.<app_ns>   address of that instance, whatever the policy
 *   short    <service>              round-robin address           } of the application that the asking instance
 *            <service>.<policy>     address of that policy        } belongs to; of several services with that name,
 *            <n>.<service>          address of that instance      } the one in the asking service's own namespace
 *   reverse  <address>.in-addr.arpa, for addresses of the service range: the full name
 *
 * Names of the Internet are not shadowed by accident: six labels are ours only when the first two are such a number or `any` and a
 * policy; two labels only when the application has the service; a single label, which is no name there, always. What is ours and
 * does not exist is answered so; everything else is foreign, and the host's own resolvers are asked.
 */
import type { ServiceRoute } from "../../protocol/route.ts";
import type { RouteTarget } from "./route-index.ts";

export interface NameDirectory {
  byAddress(address: string): RouteTarget | undefined;
  byName(jobName: string): ServiceRoute | undefined;
  servicesOf(applicationId: string): readonly ServiceRoute[];
}

/** Whose sandbox asks. */
export interface Asker {
  readonly applicationId: string;
  readonly jobName: string;
}

export type Resolution =
  | { readonly kind: "address"; readonly address: string }
  /** The name of an address. */
  | { readonly kind: "pointer"; readonly name: string }
  /** Ours, but there is no such thing. */
  | { readonly kind: "none" }
  /** Ours, but the service or the address is not known here: ask for it, then resolve again. */
  | { readonly kind: "unknown"; readonly jobName: string }
  | { readonly kind: "unknown"; readonly address: string }
  | { readonly kind: "foreign" };

type Policy = RouteTarget["policy"];

const POLICIES: Readonly<Record<string, Policy>> = {
  rr: "round-robin",
  "round-robin": "round-robin",
  closest: "closest",
  instance: "instance",
};
const NUMBER = /^\d{1,9}$/;
const LABEL = /^[a-z0-9-]{1,63}$/;
/** No name of an application, a service or a namespace is longer. */
const LONGEST = 30;
const REVERSE = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/;
const NONE: Resolution = { kind: "none" };
const FOREIGN: Resolution = { kind: "foreign" };

export interface NameQuestion {
  /** As asked; a final dot does not matter. */
  readonly name: string;
  /** Undefined: no instance of ours, which has no short names. */
  readonly asker: Asker | undefined;
  readonly isServiceAddress: (address: string) => boolean;
}

export function resolveName({ name, asker, isServiceAddress }: NameQuestion, directory: NameDirectory): Resolution {
  const plain = name.toLowerCase().replace(/\.$/, "");
  const reverse = REVERSE.exec(plain);
  if (reverse) {
    const address = reverse.slice(1).reverse().join(".");
    return isServiceAddress(address) ? nameOf(address, directory) : FOREIGN;
  }
  const labels = plain.split(".");
  if (labels.length === 6 && labels.every((label) => LABEL.test(label))) return resolveFull(labels, directory);
  if (labels.length <= 2 && plain !== "") return resolveShort(labels, asker, directory);
  return FOREIGN;
}

function resolveFull(labels: readonly string[], directory: NameDirectory): Resolution {
  const [which = "", policyLabel = "", service, serviceNamespace, app, appNamespace] = labels;
  const policy = policyOf(policyLabel);
  if (!policy || !(which === "any" || NUMBER.test(which))) return FOREIGN;
  // The cluster would take no question that contains it.
  if (labels.slice(2).some(({ length }) => length > LONGEST)) return NONE;
  const jobName = `${app}.${appNamespace}.${service}.${serviceNamespace}`;
  const route = directory.byName(jobName);
  if (!route) return { kind: "unknown", jobName };
  return which === "any" ? addressOf(route, policy) : instanceAddress(route, Number(which));
}

function resolveShort(labels: readonly string[], asker: Asker | undefined, directory: NameDirectory): Resolution {
  const [first = "", second] = labels;
  const services = asker ? directory.servicesOf(asker.applicationId) : [];
  const find = (service: string) => nearest(services, service, asker);
  if (second === undefined) {
    const route = find(first);
    return route ? addressOf(route, "round-robin") : NONE;
  }
  const policy = policyOf(second);
  const byPolicy = policy && find(first);
  if (byPolicy) return addressOf(byPolicy, policy);
  const numbered = NUMBER.test(first) ? find(second) : undefined;
  return numbered ? instanceAddress(numbered, Number(first)) : FOREIGN;
}

function nearest(services: readonly ServiceRoute[], name: string, asker: Asker | undefined): ServiceRoute | undefined {
  const namesakes = services.filter(({ jobName }) => jobName.split(".")[2]?.toLowerCase() === name);
  const ownNamespace = asker?.jobName.split(".")[3];
  return (
    namesakes.find(({ jobName }) => jobName.split(".")[3] === ownNamespace) ??
    namesakes.toSorted((left, right) => (left.jobName < right.jobName ? -1 : 1))[0]
  );
}

function policyOf(label: string): Policy | undefined {
  return Object.hasOwn(POLICIES, label) ? POLICIES[label] : undefined;
}

function addressOf({ roundRobin, closest }: ServiceRoute, policy: Policy): Resolution {
  // Any instance is not an instance.
  if (policy === "instance") return NONE;
  return { kind: "address", address: policy === "closest" ? closest : roundRobin };
}

function instanceAddress({ instances }: ServiceRoute, wanted: number): Resolution {
  const instance = instances.find(({ number }) => number === wanted);
  return instance ? { kind: "address", address: instance.address } : NONE;
}

function nameOf(address: string, directory: NameDirectory): Resolution {
  const target = directory.byAddress(address);
  if (!target) return { kind: "unknown", address };
  const [app, appNamespace, service, serviceNamespace] = target.service.jobName.split(".");
  const which = target.policy === "instance" ? target.instance.number : "any";
  const policy = target.policy === "round-robin" ? "rr" : target.policy;
  return {
    kind: "pointer",
    name: `${which}.${policy}.${service}.${serviceNamespace}.${app}.${appNamespace}`,
  };
}
