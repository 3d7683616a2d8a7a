/** `oak net show`, `check` and `trace`: a worker's routes, in words. */
import { AppError, describeError, hasCode } from "../../base/errors.ts";
import { NetCheck, NetDocument, type NetPeer, type NetService } from "../../protocol/net-document.ts";
import type { Edge } from "../edge.ts";
import { resolve, serviceNames } from "../names.ts";
import { printable, showDocument, showRows } from "../output.ts";
import type { Format } from "../output-format.ts";
import { askWorker, type SocketOptions } from "../worker-socket.ts";

type Options = SocketOptions & { readonly output: Format };
type Instance = NetService["instances"][number];

const readNet = (edge: Edge, options: Options) => askWorker(edge, options, { route: "GET /net", schema: NetDocument });

export async function show(edge: Edge, name: string | undefined, options: Options): Promise<void> {
  const net = await readNet(edge, options);
  const services = name === undefined ? net.services : [findService(net, name)];
  const rows = services.flatMap((service) => routesOf(net, service));
  showRows(edge.terminal, {
    ...{ format: options.output, rows, none: "this worker knows no service: none of its instances has asked for one" },
    documents: { ...net, services },
    columns: [
      { title: "ADDRESS", value: ({ address }) => address },
      { title: "MEANS", value: ({ means }) => means },
      { title: "A PACKET GOES TO", value: ({ goesTo }) => goesTo },
    ],
  });
  if (net.fast_path?.on === false)
    edge.terminal.err(`Established connections pass all packet rules: ${printable(net.fast_path.reason ?? "")}\n`);
  if (net.cluster && !net.cluster.connected) {
    const { url, problem = "it has just been started" } = net.cluster;
    edge.terminal.err(`This worker has no link to its cluster (${url}): ${printable(problem)}\n`);
  }
}

export async function check(edge: Edge, options: Options): Promise<void> {
  const net = await readNet(edge, options);
  const { checks } = await askWorker(edge, options, { route: "POST /net/check", schema: NetCheck });
  const rows = net.services.flatMap((service) =>
    service.instances.map((instance) => {
      const peer = net.peers.find(({ id }) => id === instance.worker_id);
      const body = checks.find(({ worker_id }) => worker_id === instance.worker_id);
      const isHere = instance.sandbox !== undefined && instance.worker_id === net.worker?.id;
      return {
        ...{ instance: `${shortName(service)}/${instance.number}`, address: instance.address },
        route: isHere ? "this worker" : peer ? `${peer.path} to ${peer.address}` : "refused: takes no traffic",
        rtt_ms: peer?.overlay_rtt_ms ?? peer?.rtt_ms,
        body: body?.error ?? (body?.body_ms === undefined ? undefined : `1 MB in ${body.body_ms} ms`),
      };
    }),
  );
  showRows(edge.terminal, {
    ...{ format: options.output, rows, none: "this worker knows no service" },
    documents: { routes: rows, checks },
    columns: [
      { title: "INSTANCE", value: ({ instance }) => instance },
      { title: "ADDRESS", value: ({ address }) => address },
      { title: "ROUTE", value: ({ route }) => route },
      { title: "RTT", value: ({ rtt_ms }) => (rtt_ms === undefined ? undefined : `${rtt_ms} ms`) },
      { title: "BODY", value: ({ body }) => body },
    ],
  });
  const failed = checks.filter(({ error }) => error !== undefined).length;
  if (failed > 0) throw new AppError("CHECK_FAILED", `${failed} of ${checks.length} workers got no body`);
}

export async function trace(edge: Edge, from: string, to: string, options: Options): Promise<void> {
  const hops = traceHops(await readNet(edge, options), from, to);
  if (options.output !== "table") return showDocument(edge.terminal, options.output, { hops });
  for (const [index, hop] of hops.entries()) edge.terminal.out(`${index + 1}. ${hop}\n`);
}

/** Pure. @throws AppError NAME_UNKNOWN | NAME_AMBIGUOUS | NOT_FOUND */
export function traceHops(net: NetDocument, from: string, to: string): string[] {
  const source = findInstance(net, from);
  const target = findTarget(net, to);
  const sourceName = `${shortName(source.service)}/${source.instance.number}`;
  if (source.instance.sandbox === undefined)
    return [`${sourceName} takes no traffic, and so sends none that is known here`];
  const hops = [`${sourceName} in sandbox ${source.instance.sandbox}, ${placeOf(net, source.instance)}`];
  if (source.instance.worker_id !== net.worker?.id) {
    hops.push("its own worker decides where the packet goes; what follows is what this worker would do");
  }
  hops.push(`to ${target.address}: ${target.means}`);
  if (target.instances.length === 0) return [...hops, "refused at once: no instance takes traffic"];
  const names = target.instances.map((one) => `${shortName(target.service)}/${one.number}`);
  if (names.length > 1) hops.push(`each new connection goes to the next of ${names.join(", ")}`);
  for (const instance of target.instances) {
    const peer = net.peers.find(({ id }) => id === instance.worker_id);
    const way = peer ? `${wayTo(peer)}, then ` : "";
    const name = `${shortName(target.service)}/${instance.number}`;
    hops.push(`${name}: ${way}sandbox ${instance.sandbox}, ${placeOf(net, instance)}`);
  }
  return [...hops, `there it is seen to come from ${source.instance.address}`];
}

interface Route {
  readonly address: string;
  readonly means: string;
  readonly goesTo: string;
}

function routesOf(net: NetDocument, service: NetService): Route[] {
  return targetsOf(service).map(({ address, means, instances }) => {
    const places = instances.map((one) => `${one.sandbox} (${placeOf(net, one)})`);
    return { address, means, goesTo: places.length === 0 ? "nobody: refused at once" : places.join(", in turn ") };
  });
}

interface Target {
  readonly service: NetService;
  readonly address: string;
  readonly means: string;
  readonly instances: readonly Instance[];
}

function targetsOf(service: NetService): Target[] {
  const live = service.instances.filter(({ sandbox }) => sandbox !== undefined);
  const nearest = live.filter(({ sandbox }) => sandbox === service.closest_target);
  const name = shortName(service);
  return [
    { service, address: service.round_robin, means: `${name}, round robin`, instances: live },
    { service, address: service.closest, means: `${name}, closest`, instances: nearest.length > 0 ? nearest : live },
    ...service.instances.map((one) => ({
      ...{ service, address: one.address, means: `${name}, instance ${one.number}` },
      instances: one.sandbox === undefined ? [] : [one],
    })),
  ];
}

function findTarget(net: NetDocument, text: string): Target {
  const target = net.services.flatMap(targetsOf).find(({ address }) => address === text);
  if (target) return target;
  if (!text.includes("/")) return targetsOf(findService(net, text))[0]!;
  const { service, instance } = findInstance(net, text);
  return targetsOf(service).find(({ address }) => address === instance.address)!;
}

function findInstance(net: NetDocument, text: string): { readonly service: NetService; readonly instance: Instance } {
  const [name = "", number = "0"] = text.split("/", 2);
  const service = findService(net, name);
  const instance = service.instances.find((one) => String(one.number) === number);
  if (!instance) throw new AppError("NOT_FOUND", `"${name}" has no instance ${number} that this worker knows`);
  return { service, instance };
}

function findService({ services }: NetDocument, name: string): NetService {
  const named = services.map((service) => ({ service, id: service.service_id, names: namesOf(service) }));
  const unknown = "A worker knows the services that run on it and those that its instances have called lately";
  try {
    return resolve("service", name, named).service;
  } catch (error) {
    if (!hasCode(error, "NAME_UNKNOWN")) throw error;
    throw new AppError("NAME_UNKNOWN", `${describeError(error)}. ${unknown}`, { cause: error });
  }
}

/** `shop.web` of `shop.prod.web.prod`. */
export function shortName(service: Pick<NetService, "job_name">): string {
  return namesOf(service)[1]!;
}

function namesOf({ job_name }: Pick<NetService, "job_name">): string[] {
  const [app = "", appNamespace = "", name = "", namespace = ""] = job_name.split(".");
  return serviceNames({ app, appNamespace, name, namespace });
}

function placeOf(net: NetDocument, { worker_id }: Instance): string {
  if (worker_id === undefined) return "on a worker unknown here";
  if (worker_id === net.worker?.id) return "on this worker";
  const peer = net.peers.find(({ id }) => id === worker_id);
  return peer ? `on worker ${peer.address}` : `on worker ${worker_id}`;
}

function wayTo({ address, path, rtt_ms }: NetPeer): string {
  const how = path === "plain" ? "by a plain route over the common link" : "through the tunnel (VXLAN, UDP 50103)";
  return `${how} to ${address}${rtt_ms === undefined ? "" : `, ${rtt_ms} ms away and back`}`;
}
