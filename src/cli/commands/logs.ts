/** `oak logs`: the output of one instance, or of all of a service's, line by line. */
import { splitLines } from "../../transport/http-client.ts";
import type { Api } from "../api.ts";
import { instancesOf, shortName } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { findService, openApi } from "../lookup.ts";
import { parseInstance } from "../names.ts";

export interface LogsOptions extends Pick<ClientOptions, "server"> {
  readonly follow?: boolean;
  readonly tail: number;
}

export async function logs(edge: Edge, reference: string, options: LogsOptions): Promise<void> {
  const api = await openApi(edge, options);
  const { service: name, number } = parseInstance(reference);
  const service = await findService(api, name);
  const numbers = number === undefined ? instancesOf(service).map((one) => one.instance_number) : [number];
  if (numbers.length === 0) edge.terminal.err(`${shortName(service)} has no instance\n`);
  const path = (instance: number) =>
    `/api/service/${service.microserviceID}/instance/${instance}/logs?tail=${options.tail}${options.follow ? "&follow=true" : ""}`;
  const only = numbers.length === 1 ? numbers[0] : undefined;
  if (only !== undefined) return await copy(edge, api, path(only), "");
  await Promise.all(numbers.map((instance) => copy(edge, api, path(instance), `${shortName(service)}/${instance} | `)));
}

async function copy(edge: Edge, api: Api, path: string, prefix: string): Promise<void> {
  for await (const line of splitLines(api.stream(path))) edge.terminal.out(`${prefix}${line}\n`);
}
