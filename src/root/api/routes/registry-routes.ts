/** Credentials to pull images with. A password goes in, and never comes out again. */
import * as z from "zod/mini";
import { Name, quote } from "../../../protocol/names.ts";
import { jsonRoute, type Route } from "../route.ts";

const tag = "registries";
const Registry = z.object({ name: z.string(), server: z.string(), username: z.string() });
const Server = z.string().check(
  z.regex(/^[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,252}[a-zA-Z0-9])?(?::\d{1,5})?$/, {
    error: (issue) => `${quote(issue.input)} is not a registry: write host or host:port, as in the image's name`,
  }),
);

export const REGISTRY_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "GET",
    path: "/api/registry",
    tag,
    summary: "The caller's registries, without passwords",
    access: "user",
    schema: z.array(Registry),
    handle: async ({ deps, caller }) =>
      (await deps.store.registries(caller.name)).map(({ name, server, username }) => ({ name, server, username })),
  }),
  jsonRoute({
    method: "POST",
    path: "/api/registry",
    tag,
    summary: "Store credentials, which a service names in `registry`; replaces those of the same name",
    access: "user",
    body: z.looseObject({
      name: Name,
      server: Server,
      username: z.string().check(z.minLength(1), z.maxLength(255)),
      password: z.string().check(z.minLength(1), z.maxLength(8192)),
    }),
    schema: Registry,
    handle: async ({ deps, caller, body }) => {
      const { name, server, username, password } = body;
      await deps.registrySecrets.put({ owner: caller.name, name, server, username, password });
      return { name, server, username };
    },
  }),
  jsonRoute({
    method: "DELETE",
    path: "/api/registry/:name",
    tag,
    summary: "Forget credentials",
    access: "user",
    schema: z.object({ message: z.string() }),
    errors: ["NOT_FOUND"],
    handle: async ({ deps, caller, params }) => {
      await deps.store.removeRegistry(caller.name, params.name!);
      return { message: "Registry removed" };
    },
  }),
];
