/** `oak registry …`: credentials to pull images with, kept by the root; a service names one (`registry:`). */
import * as z from "zod/mini";
import { Anything } from "../documents.ts";
import type { ClientOptions, Edge } from "../edge.ts";
import { openApi } from "../lookup.ts";
import { showRows } from "../output.ts";
import { readPassword } from "./account.ts";

const Registries = z.array(z.looseObject({ name: z.string(), server: z.string(), username: z.string() }));

export async function list(edge: Edge, options: ClientOptions): Promise<void> {
  const registries = await (await openApi(edge, options)).get(Registries, "/api/registry/");
  showRows(edge.terminal, {
    format: options.output,
    rows: registries,
    none: "No registry",
    columns: [
      { title: "NAME", value: (registry) => registry.name },
      { title: "SERVER", value: (registry) => registry.server },
      { title: "USER", value: (registry) => registry.username },
    ],
  });
}

export async function add(
  edge: Edge,
  name: string,
  registryServer: string,
  options: Pick<ClientOptions, "server"> & { user: string; passwordStdin?: boolean },
): Promise<void> {
  const api = await openApi(edge, options);
  const password = await readPassword(edge, options, `Password of ${options.user} at ${registryServer}: `);
  const body = { name, server: registryServer, username: options.user, password };
  await api.call(Anything, "POST", "/api/registry/", { body });
  edge.terminal.err(`registry ${name} added\n`);
}

export async function remove(edge: Edge, names: readonly string[], options: ClientOptions): Promise<void> {
  const api = await openApi(edge, options);
  for (const name of names) {
    await api.call(Anything, "DELETE", `/api/registry/${encodeURIComponent(name)}`);
    edge.terminal.err(`registry ${name} removed\n`);
  }
}
