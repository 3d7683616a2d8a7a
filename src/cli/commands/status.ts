/** `oak status`: what there is, and what is wrong with it. `oak version`. */
import { describeError } from "../../base/errors.ts";
import { instancesOf, shortName, VersionDocument } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { listClusters, listServices, openApi } from "../lookup.ts";
import { paint, printable, showDocument } from "../output.ts";

const GOOD: readonly (string | null | undefined)[] = ["RUNNING", "COMPLETED"];

export async function status(edge: Edge, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const { version } = await api.getOpen(VersionDocument, "/api/version");
  const [clusters, services] = await Promise.all([listClusters(api), listServices(api)]);
  const active = clusters.filter((cluster) => cluster.active);
  const instances = services.flatMap((service) => instancesOf(service).map((instance) => ({ service, instance })));
  const unwell = instances
    .filter(({ instance }) => !GOOD.includes(instance.status))
    .map(({ service, instance }) => ({
      instance: `${shortName(service)}/${instance.instance_number}`,
      status: instance.status ?? "REQUESTED",
      why: instance.status_detail ?? "",
    }));
  const summary = {
    server: api.server,
    version,
    user: api.user,
    clusters: `${active.length} active of ${clusters.length}`,
    workers: active.reduce((sum, cluster) => sum + Number(cluster.active_nodes ?? 0), 0),
    services: services.length,
    instances: `${instances.length - unwell.length} well of ${instances.length}`,
  };
  if (options.output !== "table") return showDocument(edge.terminal, options.output, { ...summary, unwell });
  showDocument(edge.terminal, "table", summary);
  for (const { instance, status: word, why } of unwell) {
    edge.terminal.out(`${instance}  ${paint(word, edge.terminal.colours)}  ${printable(why)}\n`);
  }
}

export async function version(edge: Edge, options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  const root = await api.getOpen(VersionDocument, "/api/version", 2000).then(
    (document) => document.version,
    (error: unknown) => `unknown (${describeError(error)})`,
  );
  showDocument(edge.terminal, options.output, { oak: edge.version, root: `${root} at ${api.server}` });
}
